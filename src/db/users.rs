//! People: how they are found, and the proof that one of them is a superuser.

use time::OffsetDateTime;

use super::{Db, Result, SessionHash, within};
use crate::model::user::{Role, UserName};

/// The proof that a request comes from a superuser whose row said so a moment ago.
///
/// Its fields are private to this file; [`Db::visitor`], and [`Db::still_superusers`] for many at once, are the only places
/// that make one, from a user row. Every method behind a page takes `by: &Superuser`, so a handler that forgot to ask doesn't compile:
///
/// ```compile_fail
/// let forged = signalbox::db::Superuser { id: 1, name: "admin".into() };
/// ```
#[derive(Debug, Clone)]
pub struct Superuser {
    id: i64,
    name: String,
}

impl Superuser {
    /// The user's number.
    pub fn id(&self) -> i64 {
        self.id
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// Somebody who has signed in.
#[derive(Debug, Clone)]
pub enum Visitor {
    /// Sees everything; here is the proof.
    Superuser(Superuser),
    /// Sees nothing; this is their name.
    Plain(String),
}

/// What a sign-in checks a password against.
#[derive(Debug, Clone)]
pub struct Credentials {
    /// The user's number.
    pub user_id: i64,
    /// The argon2id hash in PHC form.
    pub password_hash: String,
}

/// A user, as the command line lists them.
#[derive(Debug, Clone)]
pub struct UserLine {
    /// The user's name.
    pub name: String,
    /// What they may do.
    pub role: Role,
    /// Since when they may not sign in.
    pub disabled_at: Option<OffsetDateTime>,
}

impl Db {
    /// Who comes with this session, if it is one that hasn't run out, of a user who isn't shut out. One statement finds
    /// the session and reads the user's row, afresh for each request.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn visitor(&self, session: &SessionHash) -> Result<Option<Visitor>> {
        let rows = within(self.warm.all(sqlx::query!(
            "select u.id, u.name, u.role from sessions s join users u on u.id = s.user_id
                 where s.token_hash = $1 and s.expires_at > now() and u.disabled_at is null",
            &session.0[..]
        )));
        let Some(row) = rows.await?.pop() else { return Ok(None) };
        Ok(Some(match row.role.parse()? {
            Role::Superuser => Visitor::Superuser(Superuser { id: row.id, name: row.name }),
            Role::Plain => Visitor::Plain(row.name),
        }))
    }

    /// Those of these sessions whose user still is a superuser, each with the proof: what [`Db::visitor`] asks of one, for
    /// many at once.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn still_superusers(&self, sessions: &[SessionHash]) -> Result<Vec<(SessionHash, Superuser)>> {
        let hashes: Vec<Vec<u8>> = sessions.iter().map(|session| session.0.to_vec()).collect();
        let rows = within(
            sqlx::query!(
                "select s.token_hash, u.id, u.name, u.role from sessions s join users u on u.id = s.user_id
                 where s.token_hash = any($1) and s.expires_at > now() and u.disabled_at is null",
                &hashes
            )
            .fetch_all(&self.pool),
        )
        .await?;
        let mut proven = Vec::new();
        for row in rows {
            let hash = <[u8; 32]>::try_from(row.token_hash.as_slice());
            if let (Ok(hash), Role::Superuser) = (hash, row.role.parse()?) {
                proven.push((SessionHash(hash), Superuser { id: row.id, name: row.name }));
            }
        }
        Ok(proven)
    }

    /// What to check a password against; none for unknown and for disabled names.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn credentials(&self, name: &UserName) -> Result<Option<Credentials>> {
        let row = within(
            sqlx::query!(
                "select id, password_hash from users where name = $1 and disabled_at is null",
                name.as_str()
            )
            .fetch_optional(&self.pool),
        )
        .await?;
        Ok(row.map(|row| Credentials { user_id: row.id, password_hash: row.password_hash }))
    }

    /// Adds a superuser. Only the command line does this: there is no way in from the web.
    ///
    /// # Errors
    /// [`super::Error::Taken`] when the name is in use.
    pub async fn add_superuser(&self, name: &UserName, password_hash: &str) -> Result<()> {
        within(
            sqlx::query!(
                "with added as (
                     insert into users (name, role, password_hash) values ($1, 'superuser', $2) returning name)
                 insert into audit (who, what, detail) select 'command line', 'superuser added', name from added",
                name.as_str(),
                password_hash
            )
            .execute(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Shuts a user out, and ends their sessions, at once.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such user.
    pub async fn disable_user(&self, name: &UserName) -> Result<()> {
        let row = within(
            sqlx::query!(
                "with shut as (
                     update users set disabled_at = coalesce(disabled_at, now()) where name = $1 returning id, name),
                 gone as (delete from sessions using shut where user_id = shut.id),
                 noted as (insert into audit (who, what, detail)
                     select 'command line', 'user disabled', name from shut)
                 select id from shut",
                name.as_str()
            )
            .fetch_one(&self.pool),
        )
        .await;
        row.map(drop)
    }

    /// Lets a user in again who was shut out.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such user.
    pub async fn enable_user(&self, name: &UserName) -> Result<()> {
        within(
            sqlx::query!(
                "with let_in as (update users set disabled_at = null where name = $1 returning name),
                 noted as (insert into audit (who, what, detail)
                     select 'command line', 'user enabled', name from let_in)
                 select name from let_in",
                name.as_str()
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Gives a user a role.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such user.
    pub async fn set_role(&self, name: &UserName, role: Role) -> Result<()> {
        within(
            sqlx::query!(
                "with changed as (update users set role = $2 where name = $1 returning name),
                 noted as (insert into audit (who, what, detail)
                     select 'command line', 'role changed', name || ': ' || $2::text from changed)
                 select name from changed",
                name.as_str(),
                role.word()
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Changes one's own password and ends every session of theirs, this one included.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn change_password(&self, by: &Superuser, password_hash: &str) -> Result<()> {
        within(
            sqlx::query!(
                "with changed as (update users set password_hash = $2 where id = $1 returning id, name),
                 gone as (delete from sessions using changed where user_id = changed.id),
                 noted as (insert into audit (who, what) select name, 'password changed' from changed)
                 select id from changed",
                by.id,
                password_hash
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Gives somebody a new password and ends their sessions; for the command line.
    ///
    /// # Errors
    /// [`super::Error::NotFound`] when there is no such user.
    pub async fn reset_password(&self, name: &UserName, password_hash: &str) -> Result<()> {
        within(
            sqlx::query!(
                "with changed as (update users set password_hash = $2 where name = $1 returning id, name),
                 gone as (delete from sessions using changed where user_id = changed.id),
                 noted as (insert into audit (who, what, detail)
                     select 'command line', 'password reset', name from changed)
                 select id from changed",
                name.as_str(),
                password_hash
            )
            .fetch_one(&self.pool),
        )
        .await
        .map(drop)
    }

    /// Everybody, by name; for the command line.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn users(&self) -> Result<Vec<UserLine>> {
        let rows = within(
            sqlx::query!("select name, role, disabled_at from users order by name").fetch_all(&self.pool),
        )
        .await?;
        rows.into_iter()
            .map(|row| Ok(UserLine { name: row.name, role: row.role.parse()?, disabled_at: row.disabled_at }))
            .collect()
    }
}
