//! Files that PyTorch itself wrote (`xtask/reference/pytorch_fixtures.py`, PyTorch 1.13) are read to the
//! same numbers that were saved.

use std::path::PathBuf;

use half::{bf16, f16};
use vox_model::formats::pytorch::{Fault, PyTorchFile};
use vox_model::{Dtype, TensorSource};

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/pytorch")
        .join(name)
}

/// The tensor's bytes, which are as many as its shape says.
fn bytes(file: &PyTorchFile, name: &str) -> Vec<u8> {
    let index = file.tensors().iter().position(|info| info.name == name);
    let index = index.unwrap_or_else(|| panic!("there is no {name}"));
    let mut bytes = Vec::new();
    file.write_tensor(index, &mut bytes).unwrap();
    let expected = file.tensors()[index].byte_len().unwrap();
    assert_eq!(bytes.len() as u64, expected, "{name}");
    bytes
}

fn floats(file: &PyTorchFile, name: &str) -> Vec<f32> {
    let bytes = bytes(file, name);
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks
        .iter()
        .map(|chunk| f32::from_le_bytes(*chunk))
        .collect()
}

/// 0, 1, 2, … 5 of the type.
fn counted(dtype: Dtype) -> Vec<u8> {
    (0..6_u8)
        .flat_map(|number| match dtype {
            Dtype::Bool => vec![u8::from(number > 0)],
            Dtype::U8 | Dtype::I8 => vec![number],
            Dtype::I16 => i16::from(number).to_le_bytes().to_vec(),
            Dtype::I32 => i32::from(number).to_le_bytes().to_vec(),
            Dtype::I64 => i64::from(number).to_le_bytes().to_vec(),
            Dtype::F16 => f16::from(number).to_le_bytes().to_vec(),
            Dtype::BF16 => bf16::from(number).to_le_bytes().to_vec(),
            Dtype::F32 => f32::from(number).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(number).to_le_bytes().to_vec(),
            Dtype::C64 => [f32::from(number).to_le_bytes(), [0; 4]].concat(),
            other => panic!("the fixtures have no {other}"),
        })
        .collect()
}

const FORMATS: &[&str] = &["zip.pt", "zip-protocol-4.pt", "legacy.pt"];

#[test]
fn every_type_is_read_from_every_format_as_it_was_saved() {
    for format in FORMATS {
        let file = PyTorchFile::open(fixture(format)).unwrap();
        let mut seen = 0;
        for info in file.tensors() {
            if info.name.starts_with("types.") {
                assert_eq!(info.shape, [2, 3]);
                assert_eq!(
                    bytes(&file, &info.name),
                    counted(info.dtype),
                    "{format} {}",
                    info.name
                );
                seen += 1;
            }
        }
        assert_eq!(seen, 11);
        assert_eq!(file.skipped(), []);
    }
}

#[test]
fn a_tensor_is_written_row_by_row_however_it_lies_in_its_storage() {
    for format in FORMATS {
        let file = PyTorchFile::open(fixture(format)).unwrap();
        let whole: Vec<f32> = (0..24_u8).map(f32::from).collect();
        let at = |row: usize, column: usize| whole[row * 6 + column];
        let grid = |rows: &[usize], columns: &[usize]| -> Vec<f32> {
            rows.iter()
                .flat_map(|&row| columns.iter().map(move |&column| at(row, column)))
                .collect()
        };
        assert_eq!(floats(&file, "layout.whole"), whole);
        assert_eq!(floats(&file, "layout.tied"), whole);
        let transposed: Vec<f32> = (0..6)
            .flat_map(|column| (0..4).map(move |row| (row, column)))
            .map(|(row, column)| at(row, column))
            .collect();
        assert_eq!(floats(&file, "layout.transposed"), transposed);
        let all = [0, 1, 2, 3, 4, 5];
        assert_eq!(floats(&file, "layout.rows"), grid(&[1, 2], &all));
        assert_eq!(
            floats(&file, "layout.columns"),
            grid(&[0, 1, 2, 3], &[2, 3])
        );
        assert_eq!(floats(&file, "layout.every_second"), grid(&[0, 2], &[0, 3]));
        assert_eq!(floats(&file, "layout.expanded"), [0., 1., 2., 0., 1., 2.]);
        let permuted: Vec<f32> = (0..4_u8)
            .flat_map(|last| (0..6_u8).map(move |rest| f32::from(rest * 4 + last)))
            .collect();
        assert_eq!(floats(&file, "layout.permuted"), permuted);
        assert_eq!(floats(&file, "layout.scalar"), [7.]);
        assert_eq!(floats(&file, "layout.empty"), [0.; 0]);
        assert_eq!(floats(&file, "layout.parameter"), [0., 1., 2., 3.]);
    }
}

#[test]
fn the_state_dict_in_a_checkpoint_is_found_and_the_rest_is_named() {
    let file = PyTorchFile::open(fixture("checkpoint.pt")).unwrap();
    let names: Vec<&str> = file.tensors().iter().map(|info| &*info.name).collect();
    let expected = [
        "0.weight",
        "0.bias",
        "1.weight",
        "1.bias",
        "1.running_mean",
        "1.running_var",
        "1.num_batches_tracked",
    ];
    assert_eq!(names, expected);
    assert_eq!(floats(&file, "0.weight"), [0., 1., 2., 3., 4., 5.]);
    let skipped: Vec<String> = file
        .skipped()
        .iter()
        .map(|skipped| format!("{}: {}", skipped.name, skipped.what))
        .collect();
    let expected = [
        "epoch: a whole number",
        "optimizer: a dictionary",
        "note: a text",
    ];
    assert_eq!(skipped, expected);
}

#[test]
fn a_pickled_module_is_refused_with_the_name_of_its_class() {
    let error = PyTorchFile::open(fixture("module.pt")).unwrap_err();
    let Some(Fault::Import { module, name, .. }) = error.fault() else {
        panic!("{error}");
    };
    assert_eq!(
        (&**module, &**name),
        ("torch.nn.modules.container", "Sequential")
    );
    assert!(error.to_string().contains("SafeTensors"), "{error}");
}

#[test]
fn a_compiled_module_is_refused_as_one() {
    let error = PyTorchFile::open(fixture("torchscript.pt")).unwrap_err();
    assert!(matches!(error.fault(), Some(Fault::TorchScript)), "{error}");
}
