//! `customer_key(customer_id)`: the pseudonym of a customer.
//!
//! HMAC-SHA-256 (RFC 2104) of the id under the project's secret, its first 80 bits in lower-case base32 (RFC 4648):
//! 16 characters. Among 100 million customers the odds that any two share a key are below one in 10⁸.

use std::{hash::Hasher, sync::Arc};

use datafusion::{
    arrow::{
        array::{Array, ArrayRef, AsArray, StringViewBuilder},
        datatypes::DataType,
    },
    common::{Result, exec_err},
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::cast;
use crate::secret::Secret;

/// The function. Without the secret, which only who computes needs to know, it can be planned and passed on.
pub(crate) fn udf(secret: Option<&Secret>, identity: String) -> ScalarUDF {
    let signature = Signature::any(1, Volatility::Immutable);
    ScalarUDF::from(CustomerKey { secret: secret.cloned(), identity, signature })
}

/// The identity of the secret under which the function makes keys, if it is this function.
pub(crate) fn identity(function: &ScalarUDF) -> Option<&str> {
    let function = function.inner().as_ref() as &dyn std::any::Any;
    Some(&function.downcast_ref::<CustomerKey>()?.identity)
}

pub(crate) const NAME: &str = "customer_key";

#[derive(Debug)]
struct CustomerKey {
    secret: Option<Secret>,
    identity: String,
    signature: Signature,
}

impl PartialEq for CustomerKey {
    fn eq(&self, other: &Self) -> bool {
        self.identity == other.identity
    }
}

impl Eq for CustomerKey {}

impl std::hash::Hash for CustomerKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl ScalarUDFImpl for CustomerKey {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let Some(secret) = &self.secret else {
            return exec_err!("this process has no secret, under which customer keys are made");
        };
        let ids = args.args[0].to_array(args.number_rows)?;
        let ids = cast(&ids, &DataType::Utf8View)?;
        let ids = ids.as_string_view();
        let mut keys = StringViewBuilder::with_capacity(ids.len());
        for id in ids {
            match id {
                Some(id) => keys.append_value(key(secret.bytes(), id)),
                None => keys.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(keys.finish()) as ArrayRef))
    }
}

pub(crate) fn key(secret: &[u8], id: &str) -> String {
    const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any length");
    mac.update(id.as_bytes());
    let digest = mac.finalize().into_bytes();
    digest[..10]
        .chunks_exact(5)
        .flat_map(|five| {
            let bits = five.iter().fold(0_u64, |bits, byte| (bits << 8) | u64::from(*byte));
            (0..8).rev().map(move |i| char::from(ALPHABET[(bits >> (5 * i)) as usize & 31]))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc_4231_test_case_2() {
        // HMAC-SHA-256("Jefe", "what do ya want for nothing?") = 5bdcc146bf60754e6a04…
        assert_eq!(key(b"Jefe", "what do ya want for nothing?"), "lpomcrv7mb2u42qe");
    }

    #[test]
    fn another_secret_gives_other_keys() {
        assert_ne!(key(b"a", "C1"), key(b"b", "C1"));
    }
}
