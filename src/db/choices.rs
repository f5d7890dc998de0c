//! What the lists can be narrowed to: the names that there are.

use super::{Db, Result, Superuser, within};

/// Names, as a filter offers them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices {
    /// Agents.
    pub agents: Vec<String>,
    /// Workers, those heard of last first.
    pub workers: Vec<String>,
    /// Those who may start runs.
    pub people: Vec<String>,
}

impl Db {
    /// The names, at most a hundred of each.
    ///
    /// # Errors
    /// [`super::Error::Unavailable`] when Postgres doesn't answer.
    pub async fn choices(&self, _by: &Superuser) -> Result<Choices> {
        within(
            sqlx::query_as!(
                Choices,
                r#"select array(select name from agents order by name limit 100) as "agents!",
                          array(select name from workers order by heard_at desc limit 100) as "workers!",
                          array(select name from users where role = 'superuser' order by name limit 100) as "people!""#
            )
            .fetch_one(&self.pool),
        )
        .await
    }
}
