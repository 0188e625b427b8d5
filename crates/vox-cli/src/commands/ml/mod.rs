//! Training and running models.
//!
//! | module | owns |
//! |---|---|
//! | `probe` | `vox probe`: the hardware that is here |
//! | `train` | `vox train`: a training, from its configuration to its end |
//! | `serving` | what `generate`, `chat` and `embed` share: a model, its backend, its options |
//! | `generate`, `chat`, `embed` | one file for each of them |
//! | `serve` | `vox serve`: the same for programs that speak OpenAI's API |
//! | `instances` | the instances of a model that is served |
//! | `merge` | `vox model merge` |

pub(crate) mod chat;
pub(crate) mod embed;
mod failure;
pub(crate) mod generate;
mod instances;
pub(crate) mod merge;
pub(crate) mod probe;
pub(crate) mod serve;
mod serving;
pub(crate) mod train;
