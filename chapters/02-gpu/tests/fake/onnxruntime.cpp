// A library that says it is ONNX Runtime 1.4, and nothing else.

struct Base {
    const void *(*get_api)(unsigned);
    const char *(*get_version_string)();
};

static const void *get_api(unsigned) { return nullptr; }
static const char *get_version_string() { return "1.4.0"; }

extern "C" const Base *OrtGetApiBase() {
    static const Base base = {get_api, get_version_string};
    return &base;
}
