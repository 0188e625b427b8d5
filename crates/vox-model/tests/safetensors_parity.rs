//! What is written is what the format's own library writes, and each reads what the other wrote.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};

use proptest::prelude::*;
use safetensors::tensor::TensorView;
use vox_model::formats::safetensors::{
    SafeTensors, SafeTensorsError, ShardIndex, ShardPlan, WritePlan,
};
use vox_model::{Dtype, TensorInfo, TensorSource};

/// Tensors in memory.
struct InMemory(Vec<TensorInfo>, Vec<Vec<u8>>);

impl TensorSource for InMemory {
    fn tensors(&self) -> &[TensorInfo] {
        &self.0
    }

    fn write_tensor(&self, index: usize, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.1[index])
    }
}

impl InMemory {
    fn new(tensors: &[(&str, Dtype, &[u64])]) -> Self {
        let infos: Vec<TensorInfo> = tensors
            .iter()
            .map(|(name, dtype, shape)| TensorInfo {
                name: (*name).to_owned(),
                dtype: *dtype,
                shape: shape.to_vec(),
            })
            .collect();
        let data = infos.iter().enumerate().map(|(number, info)| {
            let len = usize::try_from(info.byte_len().unwrap()).unwrap();
            (0..len).map(|at| ((at * 7 + number) % 2) as u8).collect()
        });
        let data = data.collect();
        Self(infos, data)
    }
}

fn written(source: &InMemory, metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let plan = WritePlan::new(source.tensors(), metadata).unwrap();
    let mut bytes = Vec::new();
    let mut heard = Vec::new();
    plan.write(source, &mut bytes, &mut |done| heard.push(done))
        .unwrap();
    assert_eq!(bytes.len() as u64, plan.len());
    assert!(heard.is_sorted());
    assert_eq!(heard.last(), Some(&plan.len()));
    bytes
}

fn theirs(dtype: Dtype) -> safetensors::Dtype {
    serde_json::from_value(dtype.name().into()).unwrap()
}

fn by_library(source: &InMemory, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
    let views = source.0.iter().zip(&source.1).map(|(info, data)| {
        let shape = info.shape.iter().map(|&d| usize::try_from(d).unwrap());
        let view = TensorView::new(theirs(info.dtype), shape.collect(), data).unwrap();
        (info.name.clone(), view)
    });
    safetensors::serialize(views.collect::<Vec<_>>(), metadata).unwrap()
}

fn every_type() -> InMemory {
    let names: Vec<String> = Dtype::ALL
        .iter()
        .map(|dtype| format!("t.{dtype}"))
        .collect();
    let tensors = names.iter().zip(Dtype::ALL);
    let tensors: Vec<(&str, Dtype, &[u64])> = tensors
        .map(|(name, dtype)| (name.as_str(), *dtype, [2, 3].as_slice()))
        .collect();
    InMemory::new(&tensors)
}

#[test]
fn equal_tensors_are_written_as_the_formats_own_library_writes_them() {
    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    for source in [
        every_type(),
        InMemory::new(&[]),
        InMemory::new(&[("z", Dtype::F32, &[]), ("a\"\n\u{e9}", Dtype::F32, &[0, 5])]),
    ] {
        let theirs = by_library(&source, Some(metadata.clone().into_iter().collect()));
        assert_eq!(written(&source, &metadata), theirs);
        assert_eq!(
            written(&source, &BTreeMap::new()),
            by_library(&source, None)
        );
    }
}

#[test]
fn each_reads_what_the_other_wrote() {
    let source = every_type();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.safetensors");
    std::fs::write(&path, by_library(&source, None)).unwrap();
    let ours = SafeTensors::open(&path).unwrap();
    let bytes = written(&source, &BTreeMap::new());
    let library = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (info, data) in source.0.iter().zip(&source.1) {
        let index = ours.position(&info.name).unwrap();
        assert_eq!(&ours.tensors()[index], info);
        assert_eq!(&ours.read_tensor(index).unwrap().unwrap(), data);
        let mut streamed = Vec::new();
        ours.write_tensor(index, &mut streamed).unwrap();
        assert_eq!(&streamed, data);
        assert_eq!(library.tensor(&info.name).unwrap().data(), data);
    }
}

#[test]
fn a_source_that_gives_another_number_of_bytes_is_an_error() {
    for len in [0, 3, 5] {
        let mut source = InMemory::new(&[("a", Dtype::U8, &[4])]);
        let plan = WritePlan::new(source.tensors(), &BTreeMap::new()).unwrap();
        source.1[0] = vec![0; len];
        let error = plan
            .write(&source, &mut Vec::new(), &mut |_| {})
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    }
}

#[test]
fn names_that_cannot_stand_in_one_file_are_refused() {
    let plan = |tensors: &[(&str, Dtype, &[u64])]| {
        let infos = InMemory::new(tensors).0;
        WritePlan::new(&infos, &BTreeMap::new()).unwrap_err()
    };
    let twice = plan(&[("a", Dtype::U8, &[1]), ("a", Dtype::F32, &[1])]);
    assert!(matches!(twice, SafeTensorsError::SameName { .. }));
    let reserved = plan(&[("__metadata__", Dtype::U8, &[1])]);
    assert!(matches!(reserved, SafeTensorsError::ReservedName));
    let huge = TensorInfo {
        name: "a".to_owned(),
        dtype: Dtype::F64,
        shape: vec![1 << 60],
    };
    let huge = WritePlan::new(&[huge], &BTreeMap::new()).unwrap_err();
    assert!(matches!(huge, SafeTensorsError::TooLarge { .. }));
}

#[test]
fn shards_hold_every_tensor_once_and_the_index_says_where() {
    let source = InMemory::new(&[
        ("a", Dtype::U8, &[6]),
        ("b", Dtype::U8, &[4]),
        ("c", Dtype::U8, &[1]),
        ("d", Dtype::U8, &[30]),
        ("e", Dtype::U8, &[2]),
    ]);
    let plan = ShardPlan::new(source.tensors(), &BTreeMap::new(), 10).unwrap();
    let files: Vec<&str> = plan.shards().iter().map(|s| s.file_name.as_str()).collect();
    assert_eq!(files[0], "model-00001-of-00004.safetensors");
    assert_eq!(files.len(), 4);
    let sizes: Vec<u64> = plan.shards().iter().map(|s| s.plan.data_len()).collect();
    assert_eq!(sizes, [10, 1, 30, 2]);
    let index = plan.index();
    assert_eq!(index.total_size(), Some(43));
    assert_eq!(index.weight_map()["d"], "model-00003-of-00004.safetensors");
    assert_eq!(index.files(), files);
    assert_eq!(
        ShardIndex::parse(index.to_json().as_bytes()).unwrap(),
        index
    );
    for shard in plan.shards() {
        let mut bytes = Vec::new();
        shard.plan.write(&source, &mut bytes, &mut |_| {}).unwrap();
        let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        for tensor in shard.plan.tensors() {
            assert_eq!(
                read.tensor(&tensor.info.name).unwrap().data(),
                source.1[tensor.index]
            );
        }
    }
    let whole = ShardPlan::new(source.tensors(), &BTreeMap::new(), 100).unwrap();
    assert_eq!(whole.shards()[0].file_name, "model.safetensors");
    assert_eq!(whole.shards().len(), 1);
}

proptest! {
    #[test]
    fn what_the_library_reads_is_what_was_written(
        shapes in proptest::collection::vec(proptest::collection::vec(0_u64..4, 0..4), 0..6),
        types in proptest::collection::vec(0..Dtype::ALL.len(), 6),
    ) {
        let names: Vec<String> = (0..shapes.len()).map(|n| format!("t{n}")).collect();
        let tensors: Vec<(&str, Dtype, &[u64])> = names
            .iter()
            .zip(&shapes)
            .zip(&types)
            .map(|((name, shape), &dtype)| (name.as_str(), Dtype::ALL[dtype], shape.as_slice()))
            .collect();
        let source = InMemory::new(&tensors);
        prop_assert_eq!(written(&source, &BTreeMap::new()), by_library(&source, None));
    }
}
