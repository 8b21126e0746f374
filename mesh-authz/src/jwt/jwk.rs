//! Key sets (RFC 7517): the public keys that an issuer signs with.

use std::fmt;

use aws_lc_rs::signature::{
    self, EcdsaVerificationAlgorithm, EdDSAParameters, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use super::strict::StrictObject;

/// Larger answers are no key sets.
const KEYS: usize = 100;
/// Of keys that a token without an id could be by, so many are tried: whoever calls decides how often (reference security 2.4).
const TRIED: usize = 8;

/// The public keys of an issuer.
#[derive(Clone, Debug, Default)]
pub struct JwkSet {
    keys: Vec<Jwk>,
}

/// Why a key set was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJwks {
    /// It is no JSON object with unique names.
    #[error("no JSON object: {0}")]
    Json(#[from] serde_json::Error),
    /// It has no list `keys`.
    #[error("no list of keys")]
    NoKeys,
    /// It has more keys than anybody needs.
    #[error("{0} keys, more than 100")]
    TooMany(usize),
    /// A key is not what it says to be.
    #[error("key {0}: {1}")]
    Key(usize, &'static str),
    /// No key can check a signature.
    #[error("no key that can check a signature: kty RSA, EC or OKP")]
    Empty,
}

#[derive(Clone)]
struct Jwk {
    kid: Option<String>,
    alg: Option<Algorithm>,
    key: Key,
}

#[derive(Clone)]
enum Key {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    /// The uncompressed point, and the one algorithm of its curve.
    Ec(Vec<u8>, Algorithm),
    Ed25519(Vec<u8>),
}

/// Algorithms of signatures (RFC 7518 section 3.1, RFC 8037). No HS*: a key that everybody may read signs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    EdDsa,
}

impl Algorithm {
    pub(super) fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "PS384" => Self::Ps384,
            "PS512" => Self::Ps512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            "ES512" => Self::Es512,
            "EdDSA" => Self::EdDsa,
            _ => return None,
        })
    }

    /// For keys of 2048 to 8192 bits: RFC 7518 section 3.3, "A key of size 2048 bits or larger MUST be used".
    fn rsa(self) -> Option<&'static RsaParameters> {
        Some(match self {
            Self::Rs256 => &signature::RSA_PKCS1_2048_8192_SHA256,
            Self::Rs384 => &signature::RSA_PKCS1_2048_8192_SHA384,
            Self::Rs512 => &signature::RSA_PKCS1_2048_8192_SHA512,
            Self::Ps256 => &signature::RSA_PSS_2048_8192_SHA256,
            Self::Ps384 => &signature::RSA_PSS_2048_8192_SHA384,
            Self::Ps512 => &signature::RSA_PSS_2048_8192_SHA512,
            _ => return None,
        })
    }

    fn ecdsa(self) -> Option<&'static EcdsaVerificationAlgorithm> {
        Some(match self {
            Self::Es256 => &signature::ECDSA_P256_SHA256_FIXED,
            Self::Es384 => &signature::ECDSA_P384_SHA384_FIXED,
            Self::Es512 => &signature::ECDSA_P521_SHA512_FIXED,
            _ => return None,
        })
    }
}

/// What a set says about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Bad,
    /// No key has this id and this algorithm.
    NoKey,
}

impl JwkSet {
    /// Read a set. Keys that are for something else (encryption, an unknown `kty`) are passed over.
    ///
    /// # Errors
    /// Where the set is no set, a key contradicts itself, or none is left.
    pub fn parse(json: &str) -> Result<Self, InvalidJwks> {
        let (set, mut bad) = Self::parse_lenient(json)?;
        if bad.is_empty() { Ok(set) } else { Err(bad.swap_remove(0)) }
    }

    /// The same for a set of somebody else's: RFC 7517 section 5, keys that cannot be used are passed over. They are told
    /// beside the others.
    ///
    /// # Errors
    /// Where the set is no set, or no key is left.
    pub fn parse_lenient(json: &str) -> Result<(Self, Vec<InvalidJwks>), InvalidJwks> {
        let mut set = StrictObject::parse(json.as_bytes())?.0;
        let Some(Value::Array(list)) = set.remove("keys") else { return Err(InvalidJwks::NoKeys) };
        if list.len() > KEYS {
            return Err(InvalidJwks::TooMany(list.len()));
        }
        let (mut keys, mut bad) = (Vec::with_capacity(list.len()), Vec::new());
        for (index, key) in list.iter().enumerate() {
            match key.as_object().ok_or("no object").and_then(Jwk::parse) {
                Ok(key) => keys.extend(key),
                Err(why) => bad.push(InvalidJwks::Key(index, why)),
            }
        }
        if keys.is_empty() {
            return Err(if bad.is_empty() { InvalidJwks::Empty } else { bad.swap_remove(0) });
        }
        Ok((Self { keys }, bad))
    }

    /// envoy jwt_verify_lib verifyJwt: keys whose id and algorithm do not contradict the token's are tried in turn.
    pub(super) fn verify(&self, kid: Option<&str>, alg: Algorithm, signed: &[u8], signature: &[u8]) -> Verdict {
        let mut verdict = Verdict::NoKey;
        for key in self.keys.iter().filter(|key| key.fits(kid, alg)).take(TRIED) {
            if key.verify(alg, signed, signature) {
                return Verdict::Good;
            }
            verdict = Verdict::Bad;
        }
        verdict
    }
}

impl Jwk {
    fn parse(object: &Map<String, Value>) -> Result<Option<Self>, &'static str> {
        let text = |name: &str| match object.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err("a field that has to be a string is none"),
        };
        let bytes = |name: &str| -> Result<Vec<u8>, &'static str> {
            let text = text(name)?.ok_or("a part of the key is missing")?;
            URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| "a part of the key is no base64url")
        };
        // RFC 7517 section 4.2, 4.3: what is for something else checks no signature.
        let verifies = match object.get("key_ops") {
            None => true,
            Some(Value::Array(list)) => list.iter().any(|operation| operation == "verify"),
            Some(_) => return Err("key_ops is no list"),
        };
        if !verifies || text("use")?.is_some_and(|usage| usage != "sig") {
            return Ok(None);
        }
        let key = match text("kty")?.ok_or("no kty")? {
            "RSA" => Key::rsa(bytes("n")?, bytes("e")?)?,
            "EC" => match Key::ec(text("crv")?, bytes("x")?, bytes("y")?)? {
                Some(key) => key,
                None => return Ok(None),
            },
            "OKP" if text("crv")? == Some("Ed25519") => {
                let x = bytes("x")?;
                if x.len() != 32 {
                    return Err("x is not 32 bytes long");
                }
                Key::Ed25519(x)
            }
            _ => return Ok(None),
        };
        let alg = match text("alg")? {
            None => None,
            // Another algorithm than ours, for a key that could be ours: it is for something else.
            Some(name) => match Algorithm::from_name(name) {
                Some(alg) => Some(alg),
                None => return Ok(None),
            },
        };
        if alg.is_some_and(|alg| !key.can(alg)) {
            return Err("alg does not go with the key");
        }
        Ok(Some(Self { kid: text("kid")?.filter(|kid| !kid.is_empty()).map(Into::into), alg, key }))
    }

    fn fits(&self, kid: Option<&str>, alg: Algorithm) -> bool {
        let other = self.kid.as_deref().zip(kid).is_some_and(|(mine, theirs)| mine != theirs);
        !other && self.alg.is_none_or(|mine| mine == alg) && self.key.can(alg)
    }

    fn verify(&self, alg: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            Key::Rsa { n, e } => alg.rsa().is_some_and(|parameters| {
                RsaPublicKeyComponents { n, e }.verify(parameters, signed, signature).is_ok()
            }),
            Key::Ec(point, _) => alg
                .ecdsa()
                .is_some_and(|algorithm| UnparsedPublicKey::new(algorithm, point).verify(signed, signature).is_ok()),
            Key::Ed25519(point) => {
                const ALGORITHM: &EdDSAParameters = &signature::ED25519;
                UnparsedPublicKey::new(ALGORITHM, point).verify(signed, signature).is_ok()
            }
        }
    }
}

impl Key {
    fn rsa(n: Vec<u8>, e: Vec<u8>) -> Result<Self, &'static str> {
        let strip = |bytes: &[u8]| bytes.iter().position(|byte| *byte != 0).map(|start| bytes[start..].to_vec());
        let (n, e) = strip(&n).zip(strip(&e)).ok_or("modulus or exponent is zero")?;
        let bits = n.len() * 8 - n[0].leading_zeros() as usize;
        match bits {
            ..2048 => Err("an RSA key below 2048 bits"),
            8193.. => Err("an RSA key above 8192 bits"),
            _ => Ok(Self::Rsa { n, e }),
        }
    }

    /// `None`: a curve that nobody signs with here.
    fn ec(curve: Option<&str>, x: Vec<u8>, y: Vec<u8>) -> Result<Option<Self>, &'static str> {
        let (alg, size) = match curve {
            Some("P-256") => (Algorithm::Es256, 32),
            Some("P-384") => (Algorithm::Es384, 48),
            Some("P-521") => (Algorithm::Es512, 66),
            _ => return Ok(None),
        };
        // RFC 7518 section 6.2.1.2: "The length of this octet string MUST be the full size of a coordinate".
        if x.len() != size || y.len() != size {
            return Err("a coordinate has not the size of the curve");
        }
        Ok(Some(Self::Ec([&[4], &x[..], &y[..]].concat(), alg)))
    }

    fn can(&self, alg: Algorithm) -> bool {
        match self {
            Self::Rsa { .. } => alg.rsa().is_some(),
            Self::Ec(_, of_curve) => *of_curve == alg,
            Self::Ed25519(_) => alg == Algorithm::EdDsa,
        }
    }
}

impl fmt::Debug for Jwk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Jwk").field("kid", &self.kid).field("alg", &self.alg).finish_non_exhaustive()
    }
}
