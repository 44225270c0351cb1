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
    common::Result,
    logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

use super::cast;
use crate::session::Secret;

pub(super) fn udf(secret: &Secret) -> ScalarUDF {
    ScalarUDF::from(CustomerKey { secret: secret.clone(), signature: Signature::any(1, Volatility::Immutable) })
}

#[derive(Debug)]
struct CustomerKey {
    secret: Secret,
    signature: Signature,
}

impl PartialEq for CustomerKey {
    fn eq(&self, other: &Self) -> bool {
        self.secret == other.secret
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
        "customer_key"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8View)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let ids = args.args[0].to_array(args.number_rows)?;
        let ids = cast(&ids, &DataType::Utf8View)?;
        let ids = ids.as_string_view();
        let mut keys = StringViewBuilder::with_capacity(ids.len());
        for id in ids {
            match id {
                Some(id) => keys.append_value(key(self.secret.bytes(), id)),
                None => keys.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(keys.finish()) as ArrayRef))
    }
}

fn key(secret: &[u8], id: &str) -> String {
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
