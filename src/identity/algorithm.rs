//! Signature algorithms, and the one place where a signature is checked.

use super::jwk::Material;
use ring::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};

/// A signature algorithm that an issuer may be allowed to use. There is no `none` and no `HS*`:
/// what has no name here cannot be configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// RSA PKCS #1 v1.5 with SHA-384.
    Rs384,
    /// RSA PKCS #1 v1.5 with SHA-512.
    Rs512,
    /// RSA PSS with SHA-256.
    Ps256,
    /// RSA PSS with SHA-384.
    Ps384,
    /// RSA PSS with SHA-512.
    Ps512,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
    /// Ed25519, under both of its names: `EdDSA` and `Ed25519` (RFC 9864).
    EdDsa,
}

impl Algorithm {
    /// All of them, in the order of the docs.
    pub const ALL: [Self; 9] = [
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::Es256,
        Self::Es384,
        Self::EdDsa,
    ];

    /// Reads a JOSE name (RFC 7518, section 3.1). Case matters.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Self::Rs256),
            "RS384" => Some(Self::Rs384),
            "RS512" => Some(Self::Rs512),
            "PS256" => Some(Self::Ps256),
            "PS384" => Some(Self::Ps384),
            "PS512" => Some(Self::Ps512),
            "ES256" => Some(Self::Es256),
            "ES384" => Some(Self::Es384),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The JOSE name; `EdDSA` for Ed25519.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// Whether a key of this material can make such a signature.
    pub(super) fn agrees_with(self, material: &Material) -> bool {
        matches!(
            (self, material),
            (
                Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512,
                Material::Rsa { .. }
            ) | (Self::Es256, Material::P256(_))
                | (Self::Es384, Material::P384(_))
                | (Self::EdDsa, Material::Ed25519(_))
        )
    }

    /// Whether `signature` is one over `message` by the key. A pair that does not agree is not.
    ///
    /// ECDSA signatures are the fixed-length concatenation of RFC 7518, section 3.4; DER is not one.
    pub(super) fn verify(self, material: &Material, message: &[u8], signature: &[u8]) -> bool {
        let checked = match (self, material) {
            (Self::Rs256, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA256,
                message,
                signature,
            ),
            (Self::Rs384, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA384,
                message,
                signature,
            ),
            (Self::Rs512, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PKCS1_2048_8192_SHA512,
                message,
                signature,
            ),
            (Self::Ps256, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PSS_2048_8192_SHA256,
                message,
                signature,
            ),
            (Self::Ps384, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PSS_2048_8192_SHA384,
                message,
                signature,
            ),
            (Self::Ps512, Material::Rsa { n, e }) => RsaPublicKeyComponents { n, e }.verify(
                &signature::RSA_PSS_2048_8192_SHA512,
                message,
                signature,
            ),
            (Self::Es256, Material::P256(point)) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point)
                    .verify(message, signature)
            }
            (Self::Es384, Material::P384(point)) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point)
                    .verify(message, signature)
            }
            (Self::EdDsa, Material::Ed25519(key)) => {
                UnparsedPublicKey::new(&signature::ED25519, key).verify(message, signature)
            }
            _ => return false,
        };
        checked.is_ok()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::identity::compact::decode;
    use crate::identity::json::{Doc, Duplicates};
    use crate::identity::jwk;

    /// Checks a published signature, and that no bit of it and of the message can be other.
    fn vector(algorithm: Algorithm, jwk: &str, message: &str, signature: &str) {
        let doc = Doc::parse(jwk.as_bytes(), 4, Duplicates::Refuse).unwrap();
        let key = jwk::read(doc.root()).unwrap();
        let signature = decode(signature.as_bytes()).unwrap();
        let good =
            |message: &[u8], signature: &[u8]| algorithm.verify(&key.material, message, signature);
        assert!(good(message.as_bytes(), &signature));
        assert!(!good(message.as_bytes().split_first().unwrap().1, &signature));
        for place in 0..signature.len() {
            let mut hurt = signature.clone();
            *hurt.get_mut(place).unwrap() ^= 1;
            assert!(!good(message.as_bytes(), &hurt), "{place}");
            assert!(!good(message.as_bytes(), signature.get(..place).unwrap()), "{place}");
        }
    }

    #[test]
    fn published_signatures_verify() {
        const CLAIMS: &str = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlL\
            mNvbS9pc19yb290Ijp0cnVlfQ";
        // RFC 7515, appendix A.3.
        vector(
            Algorithm::Es256,
            r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
                "y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
            &format!("eyJhbGciOiJFUzI1NiJ9.{CLAIMS}"),
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        );
        // RFC 7515, appendix A.2.
        vector(
            Algorithm::Rs256,
            r#"{"kty":"RSA","e":"AQAB","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"}"#,
            &format!("eyJhbGciOiJSUzI1NiJ9.{CLAIMS}"),
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        );
        // RFC 8037, appendix A.4.
        vector(
            Algorithm::EdDsa,
            r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#,
            "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc",
            "hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg",
        );
    }

    #[test]
    fn every_name_reads_back_and_the_dangerous_ones_have_no_value() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.name()), Some(algorithm));
        }
        assert_eq!(Algorithm::parse("Ed25519"), Some(Algorithm::EdDsa));
        for name in ["none", "None", "NONE", "", "HS256", "HS512", "rs256", "ES512", "ES256K"] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }
}
