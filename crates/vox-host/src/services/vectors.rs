//! Hypervectors for plugins: bytes in, bytes out, the algebra in `vox-vsa`.

use vox_contract::Capability;
use vox_vsa::Hypervector;

use super::Services;
use crate::contract::{Error, Exceeded, vsa::Vsa};

/// Most dimensions that `symbol` makes: 1 MiB of bits.
const MAX_DIMENSIONS: u32 = 8 * 1024 * 1024;

impl Vsa for Services {
    fn symbol(&self, name: &str, dimensions: u32) -> Result<Vec<u8>, Error> {
        self.authorise(Capability::VsaOps, "")?;
        if dimensions > MAX_DIMENSIONS {
            return Err(Error::Exceeded(Exceeded {
                limit: "vsa-dimensions".to_owned(),
                value: MAX_DIMENSIONS.into(),
                remedy: "ask for fewer dimensions; 10,000 is usual".to_owned(),
            }));
        }
        let symbol = Hypervector::symbol(name, dimensions as usize).map_err(invalid)?;
        Ok(symbol.to_bytes())
    }

    fn bind(&self, a: &[u8], b: &[u8]) -> Result<Vec<u8>, Error> {
        self.authorise(Capability::VsaOps, "")?;
        Ok(vector(a)?.bind(&vector(b)?).map_err(invalid)?.to_bytes())
    }

    fn unbind(&self, bound: &[u8], b: &[u8]) -> Result<Vec<u8>, Error> {
        self.authorise(Capability::VsaOps, "")?;
        Ok(vector(bound)?
            .unbind(&vector(b)?)
            .map_err(invalid)?
            .to_bytes())
    }

    fn bundle(&self, vectors: Vec<Vec<u8>>) -> Result<Vec<u8>, Error> {
        self.authorise(Capability::VsaOps, "")?;
        let vectors = vectors
            .iter()
            .map(|bytes| vector(bytes))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Hypervector::bundle(&vectors).map_err(invalid)?.to_bytes())
    }

    fn similarity(&self, a: &[u8], b: &[u8]) -> Result<f32, Error> {
        self.authorise(Capability::VsaOps, "")?;
        vector(a)?.similarity(&vector(b)?).map_err(invalid)
    }
}

fn vector(bytes: &[u8]) -> Result<Hypervector, Error> {
    Hypervector::from_bytes(bytes).map_err(invalid)
}

fn invalid(error: vox_vsa::Error) -> Error {
    Error::Invalid(error.to_string())
}
