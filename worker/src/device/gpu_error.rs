//! What is wrong with a GPU, in one sentence with the way out. Pure: what was found goes in.

/// The CUDA version that the kernels were compiled for. They are text that the driver compiles, and only this or a later one can.
pub const NEEDED_CUDA: (u32, u32) = (13, 0);
/// The driver that came with it.
const NEEDED_DRIVER: u32 = 580;
/// The compute capability that the kernels were compiled for; later ones run them too.
pub const NEEDED_CAPABILITY: (u32, u32) = (8, 0);
/// Less free memory than this holds no network with a tile to work on.
pub const NEEDED_MEMORY: u64 = 512 << 20;

/// What there is of the first GPU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gpu {
    /// Such as NVIDIA L4.
    pub name: String,
    /// The newest CUDA that its driver knows.
    pub driver_cuda: (u32, u32),
    /// Its compute capability.
    pub capability: (u32, u32),
}

/// A GPU's memory, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    pub free: u64,
    pub total: u64,
}

/// What went wrong at one of CUDA's functions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// CUDA's number for it.
    pub code: u32,
    /// CUDA's words for it.
    pub words: String,
}

/// Why a worker cannot compute on the GPU.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    #[error(
        "there is no NVIDIA driver here (libcuda.so.1): run on a node that has one, with the runtime class that brings it into the pod (template.spec.runtimeClassName, such as nvidia)"
    )]
    NoDriver,
    #[error(
        "the NVIDIA driver shows this pod no GPU: ask for one in template.spec.containers[0].resources.limits, such as nvidia.com/gpu: 1"
    )]
    NoDevice,
    #[error(
        "the NVIDIA driver knows CUDA up to {}.{} and this worker's kernels need {}.{}: update the node's driver to {NEEDED_DRIVER} or later",
        found.0, found.1, NEEDED_CUDA.0, NEEDED_CUDA.1
    )]
    OldDriver { found: (u32, u32) },
    #[error(
        "{name} has compute capability {}.{} and this worker's kernels need {}.{} or more (Ampere and later): choose other nodes by template.spec.nodeSelector",
        found.0, found.1, NEEDED_CAPABILITY.0, NEEDED_CAPABILITY.1
    )]
    OldDevice { name: String, found: (u32, u32) },
    #[error(
        "{name} has {} MiB of {} MiB free and a worker takes at least {} MiB: others share this GPU, so give the pod a whole one or a larger part",
        mebibytes(memory.free), mebibytes(memory.total), mebibytes(NEEDED_MEMORY)
    )]
    LittleMemory { name: String, memory: Memory },
    #[error(
        "{name} has no memory free, not even to begin with: others share this GPU, so give the pod a whole one or a larger part"
    )]
    NoMemory { name: String },
    #[error(
        "the GPU cannot be used, CUDA says {words}: see the node's kernel log for Xid errors, and whether its driver and runtime fit together"
    )]
    Refused { words: String },
}

impl GpuError {
    /// Whether it may be over soon, though nobody changes anything: a GPU is reset, or others give memory back.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            GpuError::LittleMemory { .. }
            | GpuError::NoMemory { .. }
            | GpuError::Refused { .. } => true,
            GpuError::NoDriver
            | GpuError::NoDevice
            | GpuError::OldDriver { .. }
            | GpuError::OldDevice { .. } => false,
        }
    }
}

/// The driver was asked for its GPUs and refused.
#[must_use]
pub fn of_refusal(refusal: Refusal) -> GpuError {
    match refusal.code {
        // CUDA_ERROR_STUB_LIBRARY: e2e/tools/cuda/driver.c found no library to hand over to.
        34 => GpuError::NoDriver,
        // CUDA_ERROR_NO_DEVICE, CUDA_ERROR_INVALID_DEVICE
        100 | 101 => GpuError::NoDevice,
        _ => GpuError::Refused {
            words: refusal.words,
        },
    }
}

/// The GPU's own properties, before anything is made on it.
///
/// # Errors
/// What makes it useless to try.
pub fn of_gpu(gpu: &Gpu) -> Result<(), GpuError> {
    if gpu.driver_cuda < NEEDED_CUDA {
        return Err(GpuError::OldDriver {
            found: gpu.driver_cuda,
        });
    }
    if gpu.capability < NEEDED_CAPABILITY {
        return Err(GpuError::OldDevice {
            name: gpu.name.clone(),
            found: gpu.capability,
        });
    }
    Ok(())
}

/// The GPU was opened, and has this much memory.
///
/// # Errors
/// It is too little.
pub fn of_memory(gpu: &Gpu, memory: Memory) -> Result<(), GpuError> {
    if memory.free < NEEDED_MEMORY {
        return Err(GpuError::LittleMemory {
            name: gpu.name.clone(),
            memory,
        });
    }
    Ok(())
}

/// The GPU was to be opened and a first kernel tried, which went wrong in these words. Libraries and candle hand CUDA's errors on
/// in words only.
#[must_use]
pub fn of_trial(gpu: &Gpu, words: &str) -> GpuError {
    let says = |names: &[&str]| names.iter().any(|name| words.contains(name));
    if says(&[
        "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
        "CUDA_ERROR_INVALID_PTX",
    ]) {
        return GpuError::OldDriver {
            found: gpu.driver_cuda,
        };
    }
    if says(&[
        "CUDA_ERROR_NO_BINARY_FOR_GPU",
        "CUBLAS_STATUS_ARCH_MISMATCH",
    ]) {
        return GpuError::OldDevice {
            name: gpu.name.clone(),
            found: gpu.capability,
        };
    }
    if says(&["OUT_OF_MEMORY", "CUBLAS_STATUS_ALLOC_FAILED"]) {
        return GpuError::NoMemory {
            name: gpu.name.clone(),
        };
    }
    GpuError::Refused {
        words: words.to_owned(),
    }
}

fn mebibytes(bytes: u64) -> u64 {
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_cause_may_pass_and_what_a_node_lacks_does_not() {
        let name = || "NVIDIA Something".to_owned();
        let memory = Memory { free: 0, total: 1 };
        for trouble in [
            GpuError::NoMemory { name: name() },
            GpuError::LittleMemory {
                name: name(),
                memory,
            },
        ] {
            assert!(trouble.may_pass(), "{trouble}");
        }
        for trouble in [
            GpuError::NoDriver,
            GpuError::NoDevice,
            of_gpu(&gpu((12, 8), (9, 0))).unwrap_err(),
            of_gpu(&gpu((13, 0), (7, 5))).unwrap_err(),
        ] {
            assert!(!trouble.may_pass(), "{trouble}");
        }
    }

    fn gpu(driver_cuda: (u32, u32), capability: (u32, u32)) -> Gpu {
        Gpu {
            name: "NVIDIA Something".into(),
            driver_cuda,
            capability,
        }
    }

    #[test]
    fn each_trouble_is_one_sentence_with_what_is_there_and_the_way_out() {
        let good = gpu((13, 0), (8, 9));
        let refused = |code, words: &str| {
            of_refusal(Refusal {
                code,
                words: words.into(),
            })
        };
        let little = Memory {
            free: 100 << 20,
            total: 16 << 30,
        };
        let cases = [
            (
                refused(34, ""),
                vec!["no NVIDIA driver", "libcuda.so.1", "runtimeClassName"],
            ),
            (refused(100, ""), vec!["no GPU", "nvidia.com/gpu"]),
            (refused(101, ""), vec!["no GPU", "nvidia.com/gpu"]),
            (
                refused(803, "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH"),
                vec!["SYSTEM_DRIVER_MISMATCH", "Xid"],
            ),
            (
                of_gpu(&gpu((12, 8), (9, 0))).unwrap_err(),
                vec!["12.8", "13.0", "580"],
            ),
            (
                of_gpu(&gpu((13, 1), (7, 5))).unwrap_err(),
                vec!["NVIDIA Something", "7.5", "8.0", "nodeSelector"],
            ),
            (
                of_memory(&good, little).unwrap_err(),
                vec!["100 MiB of 16384 MiB", "512 MiB"],
            ),
            (
                of_trial(
                    &good,
                    "DriverError(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, \"\")",
                ),
                vec!["580"],
            ),
            (
                of_trial(&good, "CUDA_ERROR_NO_BINARY_FOR_GPU"),
                vec!["compute capability"],
            ),
            (
                of_trial(&good, "CUDA_ERROR_OUT_OF_MEMORY"),
                vec!["no memory free"],
            ),
            (
                of_trial(&good, "CUDA_ERROR_ECC_UNCORRECTABLE"),
                vec!["ECC_UNCORRECTABLE", "Xid"],
            ),
        ];
        for (trouble, parts) in cases {
            let sentence = trouble.to_string();
            for part in parts {
                assert!(sentence.contains(part), "{sentence:?} lacks {part:?}");
            }
            assert!(
                !sentence.contains('\n') && !sentence.ends_with('.'),
                "{sentence:?}"
            );
        }
    }

    #[test]
    fn the_oldest_gpu_and_driver_that_are_good_enough_are_in_no_trouble() {
        for (driver, capability) in [
            (NEEDED_CUDA, NEEDED_CAPABILITY),
            ((13, 4), (12, 1)),
            ((14, 0), (9, 0)),
        ] {
            assert_eq!(of_gpu(&gpu(driver, capability)), Ok(()));
        }
        let enough = Memory {
            free: NEEDED_MEMORY,
            total: NEEDED_MEMORY,
        };
        assert_eq!(of_memory(&gpu((13, 0), (8, 0)), enough), Ok(()));
    }

    #[test]
    fn an_old_driver_is_told_before_an_old_gpu() {
        assert!(matches!(
            of_gpu(&gpu((12, 2), (7, 5))),
            Err(GpuError::OldDriver { .. })
        ));
    }
}
