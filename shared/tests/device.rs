//! The choice of a device, every branch of it, on machines that are made up.

use accel::device::{
    CpuOnly, Device, DeviceError, DeviceRequest, Probe, select, select_or_fall_back,
};

/// A machine that is made up.
#[derive(Clone)]
struct Machine {
    pjrt_device: Option<&'static str>,
    tpu: Result<(), &'static str>,
    cuda: Result<usize, &'static str>,
}

const BARE: Machine = Machine {
    pjrt_device: None,
    tpu: Err("no TPU chip under /dev"),
    cuda: Err("no NVIDIA driver"),
};

impl Probe for Machine {
    fn pjrt_device(&self) -> Option<String> {
        self.pjrt_device.map(str::to_owned)
    }

    fn tpu(&self) -> Result<(), String> {
        self.tpu.map_err(str::to_owned)
    }

    fn cuda_devices(&self) -> Result<usize, String> {
        self.cuda.map_err(str::to_owned)
    }
}

fn auto(machine: &Machine) -> (Device, String) {
    let selection = select(DeviceRequest::Auto, machine).expect("auto never fails");
    (selection.device, selection.reason)
}

#[test]
fn auto_takes_the_tpu_only_where_the_image_says_so() {
    let everything = Machine {
        pjrt_device: Some("TPU"),
        tpu: Ok(()),
        cuda: Ok(8),
    };
    for value in ["TPU", "tpu", " TPU\n"] {
        let (device, reason) = auto(&Machine {
            pjrt_device: Some(value),
            ..everything.clone()
        });
        assert_eq!(device, Device::Tpu);
        assert_eq!(reason, "tpu: PJRT_DEVICE=TPU is set and a TPU works");
    }
    for value in [None, Some(""), Some("CUDA"), Some("CPU"), Some("TPUv5")] {
        let (device, reason) = auto(&Machine {
            pjrt_device: value,
            ..everything.clone()
        });
        assert_eq!(device, Device::Cuda(0), "{value:?}");
        assert!(reason.contains("no TPU announced"), "{reason}");
        assert!(reason.contains("8 working CUDA devices"), "{reason}");
    }
}

#[test]
fn auto_does_not_touch_a_tpu_that_nobody_announced() {
    struct Guarded;
    impl Probe for Guarded {
        fn pjrt_device(&self) -> Option<String> {
            None
        }
        fn tpu(&self) -> Result<(), String> {
            panic!("looking at a TPU takes it away from another process")
        }
        fn cuda_devices(&self) -> Result<usize, String> {
            Err("none".to_owned())
        }
    }
    let selection = select(DeviceRequest::Auto, &Guarded).unwrap();
    assert_eq!(selection.device, Device::Cpu);
}

#[test]
fn cpu_does_not_touch_anything() {
    struct Untouchable;
    impl Probe for Untouchable {
        fn pjrt_device(&self) -> Option<String> {
            panic!("not asked for")
        }
        fn tpu(&self) -> Result<(), String> {
            panic!("not asked for")
        }
        fn cuda_devices(&self) -> Result<usize, String> {
            panic!("not asked for")
        }
    }
    let selection = select(DeviceRequest::Cpu, &Untouchable).unwrap();
    assert_eq!(selection.device, Device::Cpu);
    assert_eq!(selection.reason, "cpu: asked for with --device cpu");
}

#[test]
fn auto_goes_on_past_an_announced_tpu_that_does_not_work_and_says_so() {
    let machine = Machine {
        pjrt_device: Some("TPU"),
        cuda: Ok(1),
        ..BARE
    };
    let (device, reason) = auto(&machine);
    assert_eq!(device, Device::Cuda(0));
    assert!(
        reason.contains("PJRT_DEVICE=TPU is set but no TPU works (no TPU chip under /dev)"),
        "{reason}"
    );
    assert!(
        reason.contains("1 working CUDA device was found"),
        "{reason}"
    );
}

#[test]
fn auto_ends_at_the_cpu_and_says_why() {
    let (device, reason) = auto(&BARE);
    assert_eq!(device, Device::Cpu);
    assert_eq!(
        reason,
        "cpu: no TPU announced (PJRT_DEVICE is not TPU), and no CUDA device works (no NVIDIA driver)"
    );
    // CUDA that finds no device is no CUDA.
    let (device, reason) = auto(&Machine {
        cuda: Ok(0),
        ..BARE
    });
    assert_eq!(device, Device::Cpu);
    assert!(reason.contains("no device is visible"), "{reason}");
}

#[test]
fn a_program_for_the_cpu_only_says_that_it_is_one() {
    assert_eq!(
        select(DeviceRequest::Auto, &CpuOnly).unwrap().device,
        Device::Cpu
    );
    for request in [DeviceRequest::Cuda(None), DeviceRequest::Tpu] {
        let error = select(request, &CpuOnly).unwrap_err().to_string();
        assert!(
            error.contains("this chapter runs on the CPU only"),
            "{error}"
        );
        assert!(error.contains("--device cpu"), "{error}");
    }
}

#[test]
fn a_device_asked_for_by_name_is_taken() {
    let machine = Machine {
        pjrt_device: Some("TPU"),
        tpu: Ok(()),
        cuda: Ok(2),
    };
    for (request, device) in [
        (DeviceRequest::Cpu, Device::Cpu),
        (DeviceRequest::Cuda(None), Device::Cuda(0)),
        (DeviceRequest::Cuda(Some(1)), Device::Cuda(1)),
        (DeviceRequest::Tpu, Device::Tpu),
    ] {
        let selection = select(request, &machine).unwrap();
        assert_eq!(selection.device, device);
        assert!(
            selection.reason.ends_with(&format!("--device {request}")),
            "{}",
            selection.reason
        );
    }
    // A TPU by name needs no PJRT_DEVICE.
    let unannounced = Machine {
        pjrt_device: None,
        ..machine
    };
    assert_eq!(
        select(DeviceRequest::Tpu, &unannounced).unwrap().device,
        Device::Tpu
    );
}

#[test]
fn a_device_asked_for_by_name_and_missing_is_an_error_with_the_remedy() {
    let error = select(DeviceRequest::Tpu, &BARE).unwrap_err();
    assert_eq!(
        error,
        DeviceError::Unavailable {
            request: DeviceRequest::Tpu,
            why: "no TPU chip under /dev".to_owned()
        }
    );
    for request in [DeviceRequest::Cuda(None), DeviceRequest::Cuda(Some(3))] {
        let error = select(request, &BARE).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "--device {request} is not available: no NVIDIA driver; use --device auto to take \
                 the best device that works here, or --device cpu"
            )
        );
    }
}

#[test]
fn an_index_past_the_last_gpu_says_how_many_there_are() {
    for (count, message) in [
        (
            1,
            "--device cuda:7 does not exist: this machine has 1 CUDA device; use --device cuda:0",
        ),
        (
            4,
            "--device cuda:7 does not exist: this machine has 4 CUDA devices; use --device cuda:0 \
             to cuda:3",
        ),
    ] {
        let machine = Machine {
            cuda: Ok(count),
            ..BARE
        };
        let error = select(DeviceRequest::Cuda(Some(7)), &machine).unwrap_err();
        assert_eq!(error, DeviceError::NoSuchCudaDevice { index: 7, count });
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn a_fallback_warns_and_goes_on() {
    let (selection, warning) = select_or_fall_back(DeviceRequest::Cuda(None), &BARE);
    assert_eq!(selection.device, Device::Cpu);
    assert_eq!(
        warning.as_deref(),
        Some("--device cuda is not available: no NVIDIA driver; going on with cpu")
    );
    let one_gpu = Machine {
        cuda: Ok(1),
        ..BARE
    };
    let (selection, warning) = select_or_fall_back(DeviceRequest::Cuda(Some(7)), &one_gpu);
    assert_eq!(selection.device, Device::Cuda(0));
    assert_eq!(
        warning.as_deref(),
        Some(
            "--device cuda:7 does not exist: this machine has 1 CUDA device; going on with cuda:0"
        )
    );
    for request in [
        DeviceRequest::Auto,
        DeviceRequest::Cpu,
        DeviceRequest::Cuda(None),
    ] {
        let (_, warning) = select_or_fall_back(request, &one_gpu);
        assert_eq!(warning, None, "{request}");
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    for text in ["auto", "cpu", "cuda", "cuda:0", "cuda:15", "tpu"] {
        assert_eq!(text.parse::<DeviceRequest>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "gpu",
        "CPU",
        "cuda:",
        "cuda:-1",
        "cuda:+1",
        "cuda:1.0",
        "cuda: 1",
        "cuda:0x1",
        "tpu:0",
        "cuda:99999999999999999999999",
        "auto ",
    ] {
        let error = text.parse::<DeviceRequest>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
        assert!(error.contains("auto, cpu, cuda, cuda:N"), "{error}");
    }
}

#[test]
fn a_device_is_its_name_in_json() {
    for (device, json) in [
        (Device::Cpu, "\"cpu\""),
        (Device::Cuda(3), "\"cuda:3\""),
        (Device::Tpu, "\"tpu\""),
    ] {
        assert_eq!(serde_json::to_string(&device).unwrap(), json);
        assert_eq!(serde_json::from_str::<Device>(json).unwrap(), device);
    }
    for json in ["\"auto\"", "\"cuda\"", "1", "null"] {
        assert!(serde_json::from_str::<Device>(json).is_err(), "{json}");
    }
}
