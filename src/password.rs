//! Passwords: argon2id on a blocking thread, four at a time; a name that nobody has costs the same.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;

/// OWASP's password storage cheat sheet, argon2id: m = 19 MiB, t = 2, p = 1.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// The hash of random bytes that were thrown away, with the same parameters: what names that nobody has are checked
/// against. A match would count for nothing.
const NOBODYS: &str =
    "$argon2id$v=19$m=19456,t=2,p=1$+rKpHWRLXgVi1LOQ9Uw7Kw$zDrvc+L6mUgCmzr2OPwAES6N/3KHkrvnD2NVzngGaW0";

/// The shortest password that is taken, in characters (NIST SP 800-63B-4, section 3.1.1.2, asks for 15 where a password
/// is all there is).
pub const MIN_CHARS: usize = 15;

/// The longest, in bytes, so that hashing it can't be made expensive.
pub const MAX_BYTES: usize = 1024;

/// A password that isn't taken, with the reason in a person's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Weak {
    /// Too few characters.
    #[error("A password has at least {MIN_CHARS} characters. A few words in a row do well.")]
    TooShort,
    /// Too many bytes.
    #[error("A password has at most {MAX_BYTES} bytes.")]
    TooLong,
}

/// Checks a new password's length; nothing else is asked of it.
///
/// # Errors
/// The reason it isn't taken.
pub fn check_new(password: &str) -> Result<(), Weak> {
    if password.chars().count() < MIN_CHARS {
        return Err(Weak::TooShort);
    }
    if password.len() > MAX_BYTES { Err(Weak::TooLong) } else { Ok(()) }
}

/// Hashes and checks passwords, four at a time; cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(4)) }
    }
}

/// Something that can't go wrong went wrong: the hasher's parameters, or the thread it ran on.
#[derive(Debug, thiserror::Error)]
#[error("password hashing failed: {0}")]
pub struct Failed(String);

impl Passwords {
    /// The password's hash in PHC form.
    ///
    /// # Errors
    /// [`Failed`], a defect.
    pub async fn hash(&self, password: String) -> Result<String, Failed> {
        self.on_a_thread(move || hash(&password)).await?
    }

    /// Whether the password is the one behind `hash`. With no hash it does the same work and says no, so that unknown
    /// names take as long as known ones.
    ///
    /// # Errors
    /// [`Failed`], a defect.
    pub async fn matches(&self, password: String, hash: Option<String>) -> Result<bool, Failed> {
        self.on_a_thread(move || {
            let known = hash.is_some();
            let hash = hash.unwrap_or_else(|| NOBODYS.to_owned());
            let parsed = PasswordHash::new(&hash).map_err(|error| Failed(error.to_string()))?;
            let fits = password.len() <= MAX_BYTES;
            let password = if fits { password.as_bytes() } else { b"" };
            Ok(argon2()?.verify_password(password, &parsed).is_ok() && known && fits)
        })
        .await?
    }

    async fn on_a_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Failed> {
        let turn = self.turns.clone().acquire_owned().await.map_err(|error| Failed(error.to_string()))?;
        let work = move || {
            // Kept by the work itself, which goes on when whoever asked has hung up.
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|error| Failed(error.to_string()))
    }
}

fn argon2() -> Result<Argon2<'static>, Failed> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).map_err(|error| Failed(error.to_string()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &str) -> Result<String, Failed> {
    let hash = argon2()?.hash_password(password.as_bytes()).map_err(|error| Failed(error.to_string()))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_right_password_matches_and_nothing_else_does() {
        let passwords = Passwords::default();
        let hash = passwords.hash("a quiet room with levers".into()).await.unwrap();
        let parameters = "$argon2id$v=19$m=19456,t=2,p=1$";
        assert!(hash.starts_with(parameters) && NOBODYS.starts_with(parameters), "{hash}");
        let check = async |password: &str, hash: Option<&String>| {
            passwords.matches(password.into(), hash.cloned()).await.unwrap()
        };
        assert!(check("a quiet room with levers", Some(&hash)).await);
        assert!(!check("a quiet room with lever", Some(&hash)).await);
        assert!(!check("a quiet room with levers", None).await);
        assert!(!check(&"x".repeat(MAX_BYTES + 1), Some(&hash)).await);
    }

    #[tokio::test]
    async fn hanging_up_makes_no_room_for_a_fifth() {
        let passwords = Passwords::default();
        for _ in 0..4 {
            let asked = passwords.matches("a guess".into(), None);
            assert!(tokio::time::timeout(std::time::Duration::ZERO, asked).await.is_err());
        }
        assert_eq!(passwords.turns.available_permits(), 0, "the work goes on");
        drop(passwords.turns.acquire_many(4).await.unwrap());
        assert!(!passwords.matches("a guess".into(), None).await.unwrap());
    }

    #[test]
    fn short_passwords_are_told_why() {
        assert_eq!(check_new("fourteen chars"), Err(Weak::TooShort));
        assert_eq!(check_new("fifteen charsss"), Ok(()));
    }
}
