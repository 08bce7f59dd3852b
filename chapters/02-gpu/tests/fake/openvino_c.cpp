// A library that says it is OpenVINO 2024.0, and nothing else.

struct Version {
    const char *build_number;
    const char *description;
};

extern "C" int ov_get_openvino_version(Version *version) {
    version->build_number = "2024.0.0-1-fake";
    version->description = "fake";
    return 0;
}

extern "C" void ov_version_free(Version *) {}
