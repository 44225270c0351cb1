//! The secret under which keys are made.

use std::{fmt, sync::Arc};

/// The project's secret, under which customer keys are made. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<[u8]>);

impl Secret {
    /// The secret of these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The key of a customer id, as the function `customer_key` makes it.
    #[must_use]
    pub fn key(&self, id: &str) -> String {
        crate::functions::customer_key::key(&self.0, id)
    }

    /// A hash that tells one secret from another and gives nothing of it away.
    #[must_use]
    pub fn identity(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::new().chain_update(b"tessera secret identity").chain_update(&self.0).finalize();
        digest[..8].iter().map(|b| format!("{b:02x}")).collect()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}
