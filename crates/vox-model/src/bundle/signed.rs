//! A manifest with the signature of who vouches for it: a node of the store.

use serde::{Deserialize, Serialize};
use vox_crypto::{Digest, Domain, Signature, SigningKey, canonical};

use super::error::BundleError;
use super::manifest::Manifest;

/// A manifest and the signature of its [`Provenance::signer`](super::Provenance::signer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignedManifest {
    /// What is signed, as the canonical encoding has it.
    pub manifest: Manifest,
    /// Over the encoding of the manifest.
    pub signature: Signature,
}

impl SignedManifest {
    /// Signs a manifest whose signer this key is.
    ///
    /// # Errors
    ///
    /// [`BundleError::Manifest`] when the manifest does not agree with itself or names another signer,
    /// so that nothing is signed that would be refused.
    pub fn sign(manifest: Manifest, key: &SigningKey) -> Result<Self, BundleError> {
        let message = canonical::encode(&manifest)?;
        let signature = key.sign(Domain::Bundle, &message);
        let signed = Self {
            manifest,
            signature,
        };
        signed.verify(vox_crypto::hash(&message))?;
        Ok(signed)
    }

    /// Whether the manifest agrees with itself and its signer signed it. `digest` is what it is called
    /// in the error.
    ///
    /// That somebody signed it says nothing of whether to believe them.
    ///
    /// # Errors
    ///
    /// [`BundleError::Manifest`] and [`BundleError::Signature`].
    pub fn verify(&self, digest: Digest) -> Result<(), BundleError> {
        let fault = |fault| BundleError::Manifest { digest, fault };
        self.manifest.check().map_err(fault)?;
        let signer = self.manifest.provenance.signer;
        let message = canonical::encode(&self.manifest)?;
        let signature = BundleError::Signature {
            digest,
            signer: signer.id(),
        };
        signer
            .verify(Domain::Bundle, &message, &self.signature)
            .map_err(|_| signature)
    }
}
