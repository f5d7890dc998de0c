//! What is pushed, encrypted so that only the browser can read it: RFC 8291, on top of RFC 8188.

use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::agreement::{ECDH_P256, EphemeralPrivateKey, UnparsedPublicKey, agree_ephemeral};
use ring::error::Unspecified;
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::model::bell::PushKeys;

/// Everything is padded to this length, so that its length tells nothing.
const PADDED: usize = 256;
/// The size of a record: there is one.
const RECORD: u32 = 4096;

/// Encrypts for this subscription.
///
/// # Errors
/// When its key is no point on the curve.
pub(super) fn seal(keys: &PushKeys, text: &[u8]) -> Result<Vec<u8>, Unspecified> {
    let random = SystemRandom::new();
    let mut salt = [0; 16];
    random.fill(&mut salt)?;
    let own = EphemeralPrivateKey::generate(&ECDH_P256, &random)?;
    let public = own.compute_public_key()?;
    let theirs = UnparsedPublicKey::new(&ECDH_P256, &keys.p256dh[..]);
    agree_ephemeral(own, &theirs, |shared| seal_with(shared, keys, public.as_ref(), salt, text, PADDED))?
}

/// The same, with everything that is random given.
fn seal_with(
    shared: &[u8],
    keys: &PushKeys,
    public: &[u8],
    salt: [u8; 16],
    text: &[u8],
    padded: usize,
) -> Result<Vec<u8>, Unspecified> {
    let mut input = [0; 32];
    let info = [b"WebPush: info\0", &keys.p256dh[..], public];
    derive(&keys.auth, shared, &info, &mut input)?;
    let (mut key, mut nonce) = ([0; 16], [0; 12]);
    derive(&salt, &input, &[b"Content-Encoding: aes128gcm\0"], &mut key)?;
    derive(&salt, &input, &[b"Content-Encoding: nonce\0"], &mut nonce)?;

    // The delimiter of the last record, then the padding.
    let mut record = [text, &[2]].concat();
    record.resize(record.len().max(padded), 0);
    let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key)?);
    key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::empty(), &mut record)?;
    let named = u8::try_from(public.len()).map_err(|_| Unspecified)?;
    Ok([&salt[..], &RECORD.to_be_bytes(), &[named], public, &record].concat())
}

/// HKDF with SHA-256 (RFC 5869).
fn derive(salt: &[u8], input: &[u8], info: &[&[u8]], out: &mut [u8]) -> Result<(), Unspecified> {
    let length = Length(out.len());
    Salt::new(HKDF_SHA256, salt).extract(input).expand(info, length)?.fill(out)
}

struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::super::{base64url, from_base64url};
    use super::*;

    #[test]
    fn the_example_of_rfc_8291_comes_out_as_it_says() {
        // Section 5 and appendix A.
        let keys = PushKeys {
            p256dh: from_base64url(
                "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
            )
            .unwrap(),
            auth: from_base64url("BTBZMqHH6r4Tts7J_aSIgg").unwrap(),
        };
        let shared: [u8; 32] = from_base64url("kyrL1jIIOHEzg3sM2ZWRHDRB62YACZhhSlknJ672kSs").unwrap();
        let public: [u8; 65] = from_base64url(
            "BP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A8",
        )
        .unwrap();
        let salt = from_base64url("DGv6ra1nlYgDCS1FRnbzlw").unwrap();
        let text = b"When I grow up, I want to be a watermelon";
        let sealed = seal_with(&shared, &keys, &public, salt, text, 0).unwrap();
        assert_eq!(
            base64url(&sealed),
            "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8w\
             EqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
        );
    }

    #[test]
    fn what_is_sealed_is_as_long_whatever_it_says_and_never_the_same() {
        let own = EphemeralPrivateKey::generate(&ECDH_P256, &SystemRandom::new()).unwrap();
        let p256dh = own.compute_public_key().unwrap().as_ref().try_into().unwrap();
        let keys = PushKeys { p256dh, auth: [1; 16] };
        let (one, other) = (seal(&keys, b"1 run needs you").unwrap(), seal(&keys, b"").unwrap());
        assert_eq!(one.len(), other.len());
        assert_ne!(one, seal(&keys, b"1 run needs you").unwrap());
        assert!(seal(&PushKeys { p256dh: [4; 65], ..keys }, b"").is_err(), "no point on the curve");
    }
}
