//! Which devices CUDA shows to this process, and by which numbers.

use crate::hardware::CudaDevice;

/// Gives each device that CUDA shows its ordinal.
///
/// `shown` is `CUDA_VISIBLE_DEVICES` (CUDA C++ Programming Guide, "CUDA Environment Variables"): numbers
/// or beginnings of UUIDs, with commas; what follows an entry that names no device, or one a second
/// time, does not count. Without it all devices are shown, but of instances only the first one.
pub(super) fn assign_ordinals(devices: &mut [CudaDevice], shown: Option<&str>) {
    for device in &mut *devices {
        device.ordinal = None;
    }
    let order: Vec<usize> = match shown {
        Some(shown) => listed(devices, shown),
        None => {
            let first_instance = devices.iter().position(is_instance);
            let shown =
                |index: &usize| !is_instance(&devices[*index]) || Some(*index) == first_instance;
            (0..devices.len()).filter(shown).collect()
        }
    };
    for (ordinal, index) in (0..).zip(order) {
        devices[index].ordinal = Some(ordinal);
    }
}

/// The devices that the entries name, in their order.
fn listed(devices: &[CudaDevice], shown: &str) -> Vec<usize> {
    let mut order = Vec::new();
    for entry in shown.split(',').map(str::trim) {
        let index = match entry.parse::<usize>() {
            Ok(number) => (number < devices.len()).then_some(number),
            Err(_) if entry.starts_with("GPU-") || entry.starts_with("MIG-") => {
                devices.iter().position(|device| {
                    let uuid = device.uuid.as_deref();
                    uuid.is_some_and(|uuid| uuid.starts_with(entry))
                })
            }
            Err(_) => None,
        };
        match index {
            Some(index) if !order.contains(&index) => order.push(index),
            _ => break,
        }
    }
    order
}

fn is_instance(device: &CudaDevice) -> bool {
    let uuid = device.uuid.as_deref();
    uuid.is_some_and(|uuid| uuid.starts_with("MIG-"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::Version;

    fn ordinals(uuids: &[&str], shown: Option<&str>) -> Vec<Option<u32>> {
        let mut devices: Vec<CudaDevice> = uuids
            .iter()
            .map(|uuid| CudaDevice {
                ordinal: Some(77),
                name: "device".to_owned(),
                uuid: Some((*uuid).to_owned()),
                memory_total: 1 << 30,
                memory_free: 1 << 30,
                compute_capability: Version { major: 9, minor: 0 },
                tier: 50,
            })
            .collect();
        assign_ordinals(&mut devices, shown);
        devices.iter().map(|device| device.ordinal).collect()
    }

    const THREE: [&str; 3] = ["GPU-aa11", "GPU-bb22", "GPU-cc33"];

    #[test]
    fn all_devices_are_shown_unless_the_variable_says_which() {
        assert_eq!(ordinals(&THREE, None), [Some(0), Some(1), Some(2)]);
        assert_eq!(ordinals(&THREE, Some("2,0")), [Some(1), None, Some(0)]);
        assert_eq!(ordinals(&THREE, Some("GPU-bb")), [None, Some(0), None]);
    }

    #[test]
    fn what_follows_an_entry_that_names_nothing_does_not_count() {
        assert_eq!(ordinals(&THREE, Some("0,7,1")), [Some(0), None, None]);
        assert_eq!(ordinals(&THREE, Some("1,1,0")), [None, Some(0), None]);
        for nothing in ["", "-1", "none", "GPU-dd"] {
            assert_eq!(
                ordinals(&THREE, Some(nothing)),
                [None, None, None],
                "{nothing}"
            );
        }
    }

    #[test]
    fn of_instances_one_is_shown() {
        let split = ["MIG-aa", "MIG-bb", "GPU-cc"];
        assert_eq!(ordinals(&split, None), [Some(0), None, Some(1)]);
        assert_eq!(ordinals(&split, Some("MIG-bb")), [None, Some(0), None]);
    }
}
