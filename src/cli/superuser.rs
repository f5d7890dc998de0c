//! `signalbox superuser`: who may see and do everything.

use std::io::{BufRead, IsTerminal, Read};

use clap::Subcommand;
use secrecy::{ExposeSecret, SecretString};

use super::{Failure, block_on, say};
use crate::config;
use crate::db::{self, Db};
use crate::model::user::{Role, UserName};
use crate::password::{self, Passwords};

#[derive(Debug, Subcommand)]
pub(super) enum Act {
    /// Add a superuser. The password comes from a prompt, or from the first line of standard input.
    Add {
        /// What they sign in with: small letters, digits, dot, dash, underscore.
        name: String,
    },
    /// Give somebody a new password and end their sessions.
    Password {
        /// Their name.
        name: String,
    },
    /// Shut somebody out, and end their sessions, at once.
    Disable {
        /// Their name.
        name: String,
    },
    /// Let somebody in again who was shut out. Their role and password stay as they were.
    Enable {
        /// Their name.
        name: String,
    },
    /// Make somebody a plain user, who sees nothing; bites at their next click.
    Demote {
        /// Their name.
        name: String,
    },
    /// Make a plain user a superuser.
    Promote {
        /// Their name.
        name: String,
    },
    /// Say who there is: name, superuser or plain, active or disabled, with tabs between.
    List,
}

pub(super) fn run(act: Act) -> Result<(), Failure> {
    let url = config::database_url(&config::env())?;
    block_on(async {
        let db = Db::new(url.expose_secret(), db::Role::Web, 1)?;
        match obey(act, &db).await {
            Err(Trouble::Db(error)) => Err(told(error, url.expose_secret()).await),
            Err(Trouble::Said(failure)) => Err(failure),
            Ok(()) => Ok(()),
        }
    })
}

/// A database that can't be asked, or something that a person is told as it is.
enum Trouble {
    Db(db::Error),
    Said(Failure),
}

impl From<db::Error> for Trouble {
    fn from(error: db::Error) -> Self {
        Self::Db(error)
    }
}

impl From<Failure> for Trouble {
    fn from(failure: Failure) -> Self {
        Self::Said(failure)
    }
}

async fn obey(act: Act, db: &Db) -> Result<(), Trouble> {
    match act {
        Act::Add { name } => {
            let name = parse(&name)?;
            let hash = new_hash(&name).await?;
            found(db.add_superuser(&name, &hash).await, &name)?;
            say::line(format_args!("{name} is a superuser."));
        }
        Act::Password { name } => {
            let name = parse(&name)?;
            let hash = new_hash(&name).await?;
            found(db.reset_password(&name, &hash).await, &name)?;
            say::line(format_args!("{name} has a new password and no session."));
            say_if_shut_out(db, &name).await?;
        }
        Act::Disable { name } => {
            let name = parse(&name)?;
            found(db.disable_user(&name).await, &name)?;
            say::line(format_args!("{name} is shut out."));
        }
        Act::Enable { name } => {
            let name = parse(&name)?;
            found(db.enable_user(&name).await, &name)?;
            say::line(format_args!("{name} may sign in."));
        }
        Act::Demote { name } => {
            let name = parse(&name)?;
            found(db.set_role(&name, Role::Plain).await, &name)?;
            say::line(format_args!("{name} is a plain user."));
        }
        Act::Promote { name } => {
            let name = parse(&name)?;
            found(db.set_role(&name, Role::Superuser).await, &name)?;
            say::line(format_args!("{name} is a superuser."));
            say_if_shut_out(db, &name).await?;
        }
        Act::List => {
            for user in db.users().await? {
                let shut = if user.disabled_at.is_some() { "disabled" } else { "active" };
                say::line(format_args!("{}\t{}\t{shut}", user.name, user.role.word()));
            }
        }
    }
    Ok(())
}

/// Whoever is shut out stays so, whatever else is done for them.
async fn say_if_shut_out(db: &Db, name: &UserName) -> Result<(), Trouble> {
    let users = db.users().await?;
    if users.iter().any(|user| user.name == name.as_str() && user.disabled_at.is_some()) {
        say::line(format_args!("{name} is shut out all the same: signalbox superuser enable {name}"));
    }
    Ok(())
}

fn parse(name: &str) -> Result<UserName, Failure> {
    UserName::parse(name).map_err(Failure::new)
}

fn found<T>(done: db::Result<T>, name: &UserName) -> Result<T, Trouble> {
    done.map_err(|error| match error {
        db::Error::NotFound => Failure::new(format_args!("There is nobody called {name}.")).into(),
        db::Error::Taken(_) => Failure::new(format_args!("The name {name} is taken.")).into(),
        error => error.into(),
    })
}

/// Why the database couldn't do it. A role that isn't there, or isn't for this login, looks like silence from inside the
/// pool, so ask outside it.
async fn told(error: db::Error, url: &str) -> Failure {
    let found = match &error {
        db::Error::Unavailable(_) | db::Error::Broken(_) => db::checkup(url).await.ok(),
        _ => None,
    };
    match found.and_then(|found| found.pending) {
        Some(0) => Failure::new(format_args!("{error}. Is DATABASE_URL the one that `serve` has?")),
        Some(_) => Failure::new("The database has no schema, or an old one: run `signalbox migrate` first."),
        None => error.into(),
    }
}

async fn new_hash(name: &UserName) -> Result<String, Failure> {
    let password = read_password(name)?;
    password::check_new(password.expose_secret()).map_err(Failure::new)?;
    Passwords::default().hash(password.expose_secret().to_owned()).await.map_err(Failure::new)
}

/// Asks twice on a terminal; else takes the first line of standard input.
fn read_password(name: &UserName) -> Result<SecretString, Failure> {
    if !std::io::stdin().is_terminal() {
        let mut line = String::new();
        std::io::stdin()
            .lock()
            .take(2 * password::MAX_BYTES as u64)
            .read_line(&mut line)
            .map_err(|error| Failure::new(format_args!("The password can't be read: {error}.")))?;
        let line = line.strip_suffix('\n').unwrap_or(&line);
        return Ok(line.strip_suffix('\r').unwrap_or(line).into());
    }
    let first = SecretString::from(rpassword::prompt_password(format!("Password for {name}: "))?);
    password::check_new(first.expose_secret()).map_err(Failure::new)?;
    let again = SecretString::from(rpassword::prompt_password("Once more: ")?);
    if first.expose_secret() == again.expose_secret() {
        Ok(first)
    } else {
        Err(Failure::new("The two aren't the same."))
    }
}
