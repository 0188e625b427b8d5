//! What a pickle of weights can say: the values, and the few Python names that it may mention.

use crate::Dtype;

/// The place of a value in the [`Heap`](super::heap::Heap) of its pickle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Id(pub(super) u32);

/// A value. Containers hold places, so that a value which contains itself is no trouble.
#[derive(Debug)]
pub(in super::super) enum Value {
    None,
    Bool(bool),
    Int(i128),
    /// A whole number of more than 128 bits.
    BigInt,
    Float,
    Text(Box<str>),
    Bytes,
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Set,
    Global(Global),
    Device,
    Storage(StorageView),
    Tensor(Tensor),
}

impl Value {
    /// What it is, for people.
    pub(in super::super) const fn kind(&self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Bool(_) => "a truth value",
            Self::Int(_) | Self::BigInt => "a whole number",
            Self::Float => "a number",
            Self::Text(_) => "a text",
            Self::Bytes => "bytes",
            Self::Tuple(_) => "a tuple",
            Self::List(_) => "a list",
            Self::Dict(_) => "a dictionary",
            Self::Set => "a set",
            Self::Global(Global::Dtype(_)) => "a type of elements",
            Self::Global(_) => "a name of Python",
            Self::Device => "a device",
            Self::Storage(_) => "a storage",
            Self::Tensor(_) => "a tensor",
        }
    }
}

/// Part of a storage, by elements of the storage's type (bytes if it has none).
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct StorageView {
    /// Which of [`Heap::storages`](super::heap::Heap::storages).
    pub(in super::super) storage: usize,
    pub(in super::super) offset: u64,
    pub(in super::super) len: u64,
}

/// A storage that a pickle speaks of; where its data is, the pickle does not know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Storage {
    pub(in super::super) key: String,
    /// `None` for bytes whose meaning the tensors say.
    pub(in super::super) dtype: Option<Dtype>,
    /// Number of elements, of bytes without a type.
    pub(in super::super) len: u64,
}

impl Storage {
    /// Bytes of one element.
    pub(in super::super) fn element(&self) -> u64 {
        self.dtype.map_or(1, Dtype::size)
    }
}

/// A tensor whose every element lies within its storage.
#[derive(Debug, Clone)]
pub(in super::super) struct Tensor {
    pub(in super::super) storage: usize,
    pub(in super::super) dtype: Dtype,
    /// Where the first element stands, in bytes of the storage.
    pub(in super::super) start: u64,
    pub(in super::super) shape: Vec<u64>,
    /// Steps in elements, one for each dimension.
    pub(in super::super) strides: Vec<u64>,
}

/// A name of Python's that may stand in a pickle. None of them is ever looked up in Python: each
/// stands for what [`call`](super::rebuild) makes of it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Global {
    OrderedDict,
    Size,
    Device,
    Encode,
    RebuildTensor,
    RebuildTensorV2,
    RebuildTensorV3,
    RebuildParameter,
    Storage(Dtype),
    UntypedStorage,
    Dtype(Dtype),
}

impl Global {
    /// What stands for this name, if the name is allowed.
    pub(super) fn find(module: &str, name: &str) -> Option<Self> {
        Some(match (module, name) {
            ("collections", "OrderedDict") => Self::OrderedDict,
            ("torch", "Size") => Self::Size,
            ("torch", "device") => Self::Device,
            // How protocol 2 writes bytes.
            ("_codecs", "encode") => Self::Encode,
            ("torch._utils", "_rebuild_tensor") => Self::RebuildTensor,
            ("torch._utils", "_rebuild_tensor_v2") => Self::RebuildTensorV2,
            ("torch._utils", "_rebuild_tensor_v3") => Self::RebuildTensorV3,
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => {
                Self::RebuildParameter
            }
            ("torch.storage" | "torch", "UntypedStorage") => Self::UntypedStorage,
            ("torch", name) => match name.strip_suffix("Storage") {
                Some(kind) => Self::Storage(storage(kind)?),
                None => Self::Dtype(dtype(name)?),
            },
            _ => return None,
        })
    }
}

fn storage(kind: &str) -> Option<Dtype> {
    Some(match kind {
        "Bool" => Dtype::Bool,
        "Byte" => Dtype::U8,
        "Char" => Dtype::I8,
        "Short" => Dtype::I16,
        "Half" => Dtype::F16,
        "BFloat16" => Dtype::BF16,
        "Int" => Dtype::I32,
        "Float" => Dtype::F32,
        "ComplexFloat" => Dtype::C64,
        "Long" => Dtype::I64,
        "Double" => Dtype::F64,
        _ => return None,
    })
}

fn dtype(name: &str) -> Option<Dtype> {
    Some(match name {
        "bool" => Dtype::Bool,
        "uint8" => Dtype::U8,
        "int8" => Dtype::I8,
        "float8_e5m2" => Dtype::F8E5M2,
        "float8_e4m3fn" => Dtype::F8E4M3,
        "float8_e8m0fnu" => Dtype::F8E8M0,
        "uint16" => Dtype::U16,
        "int16" => Dtype::I16,
        "float16" => Dtype::F16,
        "bfloat16" => Dtype::BF16,
        "uint32" => Dtype::U32,
        "int32" => Dtype::I32,
        "float32" => Dtype::F32,
        "complex64" => Dtype::C64,
        "uint64" => Dtype::U64,
        "int64" => Dtype::I64,
        "float64" => Dtype::F64,
        _ => return None,
    })
}
