// A plugin that computes nothing, for tests: it counts its objects, looks at what it is
// given, and fails where it is told to.
//
// Programs are text that begins with "module"; running one returns a copy of each argument.
// Copies to the host end some time after the call. TABLE_BYTES makes the table shorter, as an
// older plugin's is. A client's options tell it what to do:
//
//   "fail":    the function of this name returns an error
//   "missing": the function of this name is not in the table
//   "hollow":  the function of this name returns no error and no object
//
// All options come back as attributes of the client's device. The plugin's own attribute
// "alive" is the number of objects and errors that nobody has destroyed.
//
// Arguments are structs whose fields have 8 bytes each (an int its first 4): a[0] is the size,
// a[1] the extensions, a[2] the first field. Order and sizes are those of PJRT's C API 0.81.

#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#ifndef TABLE_BYTES
#define TABLE_BYTES sizeof(Table)
#endif

using Word = uintptr_t;

static std::atomic<long> alive;

// Counts what is made and destroyed; a second destruction ends the process.
struct Counted {
  uint32_t mark = 0xA11FE;
  Counted() { alive++; }
  ~Counted() {
    if (mark != 0xA11FE) abort();
    mark = 0;
    alive--;
  }
};

struct Error : Counted {
  int code;
  std::string message;
  Error(int code, std::string message) : code(code), message(std::move(message)) {}
};

enum { INVALID_ARGUMENT = 3, RESOURCE_EXHAUSTED = 8, UNIMPLEMENTED = 12 };

struct NamedValue {
  size_t size;
  void* extensions;
  const char* name;
  size_t name_size;
  int kind;
  union {
    const char* text;
    int64_t number;
    const int64_t* numbers;
  };
  size_t value_size;
};

struct Table {
  size_t size;
  void* extensions;
  size_t version_size;
  void* version_extensions;
  int major, minor;
  void* slots[118];
};
static Table table;

static std::string fail, missing, hollow;
static int missing_slot = -1;
static void* missing_function;

struct Entry {
  const char* name;
  int slot;
};
static std::vector<Entry>& entries() {
  static std::vector<Entry> all;
  return all;
}
static bool enter(const char* name, int slot, void* function) {
  entries().push_back({name, slot});
  table.slots[slot] = function;
  return true;
}

static bool ends_with(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

// Destructions and waits do their work before they fail. Making a client reads first who is
// to fail: until then it is the function that the client before was told of.
static bool fails_late(const std::string& name) {
  return name == "PJRT_Client_Create" || ends_with(name, "_Destroy") || ends_with(name, "_Await");
}

static Error* told(const char* name) {
  return new Error(RESOURCE_EXHAUSTED, std::string(name) + " was told to fail");
}

static Error* look(const char* name, Word* a, size_t size) {
  if (a[0] < size) return new Error(INVALID_ARGUMENT, "the struct is too short");
  if (a[1] != 0) return new Error(INVALID_ARGUMENT, "there are extensions");
  if (fail == name && !fails_late(name)) return told(name);
  return nullptr;
}

#define FUNCTION(NAME, SLOT, SIZE)                                        \
  static Error* body_##NAME(Word* a);                                     \
  static Error* call_##NAME(Word* a) {                                    \
    if (Error* error = look(#NAME, a, SIZE)) return error;                \
    Error* error = body_##NAME(a);                                        \
    if (!error && fail == #NAME) return told(#NAME);                      \
    return error;                                                         \
  }                                                                       \
  [[maybe_unused]] static const bool entered_##NAME =                     \
      enter(#NAME, SLOT, reinterpret_cast<void*>(call_##NAME));           \
  static Error* body_##NAME(Word* a)

template <typename T>
static T* as(Word word) {
  return reinterpret_cast<T*>(word);
}

// Hands an object out, unless the function was told to be hollow.
template <typename T>
static Error* give(const char* name, Word& out, T* object) {
  if (hollow == name) {
    delete object;
    object = nullptr;
  }
  out = reinterpret_cast<Word>(object);
  return nullptr;
}

struct Device {
  std::string kind = "a fake device";
  std::vector<NamedValue> attributes;
};

struct Client : Counted {
  Device device;
  Device* devices[1] = {&device};
  std::vector<std::string> texts;
  std::vector<std::vector<int64_t>> lists;
  std::atomic<int> children{0};
};

// What a client made must be gone before it.
struct Child : Counted {
  Client* client;
  explicit Child(Client* client) : client(client) {
    if (client) client->children++;
  }
  ~Child() {
    if (client) client->children--;
  }
};

struct Buffer : Child {
  int type;
  std::vector<int64_t> dims;
  std::vector<unsigned char> bytes;
  bool donated = false;
  using Child::Child;
};

struct Executable : Child {
  NamedValue cost[2];
  using Child::Child;
};

struct Loaded : Child {
  using Child::Child;
};

struct Event : Child {
  std::thread work;
  using Child::Child;
  void wait() {
    if (work.joinable()) work.join();
  }
  ~Event() { wait(); }
};

struct Topology : Counted {
  Device device;
  Device* devices[2] = {&device, &device};
};

// ---- errors and the plugin: the first two return nothing ----

static void error_destroy(Word* a) { delete as<Error>(a[2]); }
static void error_message(Word* a) {
  Error* error = as<Error>(a[2]);
  a[3] = reinterpret_cast<Word>(error->message.data());
  a[4] = error->message.size();
}
static const bool entered_errors =
    enter("PJRT_Error_Destroy", 0, reinterpret_cast<void*>(error_destroy)) &&
    enter("PJRT_Error_Message", 1, reinterpret_cast<void*>(error_message));

FUNCTION(PJRT_Error_GetCode, 2, 28) {
  *as<int>(reinterpret_cast<Word>(a + 3)) = as<Error>(a[2])->code;
  return nullptr;
}

FUNCTION(PJRT_Plugin_Initialize, 3, 16) {
  (void)a;
  return nullptr;
}

FUNCTION(PJRT_Plugin_Attributes, 4, 32) {
  static NamedValue value;
  value.name = "alive";
  value.name_size = 5;
  value.kind = 1;
  value.number = alive;
  value.value_size = 1;
  a[2] = reinterpret_cast<Word>(&value);
  a[3] = 1;
  return nullptr;
}

// ---- events ----

FUNCTION(PJRT_Event_Destroy, 5, 24) {
  delete as<Event>(a[2]);
  return nullptr;
}
FUNCTION(PJRT_Event_Await, 8, 24) {
  as<Event>(a[2])->wait();
  return nullptr;
}

// ---- clients and devices ----

static void take_options(Client* client, const NamedValue* options, size_t count) {
  client->texts.reserve(2 * count);
  client->lists.reserve(count);
  for (size_t i = 0; i < count; i++) {
    NamedValue copy = options[i];
    client->texts.emplace_back(copy.name, copy.name_size);
    copy.name = client->texts.back().data();
    if (copy.kind == 0) {
      client->texts.emplace_back(copy.text, copy.value_size);
      copy.text = client->texts.back().data();
      const std::string& name = client->texts[client->texts.size() - 2];
      if (name == "fail") fail = client->texts.back();
      if (name == "missing") missing = client->texts.back();
      if (name == "hollow") hollow = client->texts.back();
    } else if (copy.kind == 2) {
      client->lists.emplace_back(copy.numbers, copy.numbers + copy.value_size);
      copy.numbers = client->lists.back().data();
    }
    client->device.attributes.push_back(copy);
  }
  // One of a type that no header has: a caller must pass over it.
  NamedValue strange{};
  strange.name = "strange";
  strange.name_size = 7;
  strange.kind = 99;
  client->device.attributes.push_back(strange);
}

FUNCTION(PJRT_Client_Create, 10, 88) {
  for (int callback = 4; callback <= 7; callback++)
    if (a[callback]) return new Error(INVALID_ARGUMENT, "there is a callback");
  if (missing_slot >= 0) table.slots[missing_slot] = missing_function;
  missing_slot = -1;
  fail = missing = hollow = "";
  Client* client = new Client;
  take_options(client, as<NamedValue>(a[2]), a[3]);
  for (const Entry& entry : entries()) {
    if (missing != entry.name) continue;
    missing_slot = entry.slot;
    missing_function = table.slots[entry.slot];
    table.slots[entry.slot] = nullptr;
  }
  if (fail == "PJRT_Client_Create") {
    delete client;
    return told("PJRT_Client_Create");
  }
  return give("PJRT_Client_Create", a[8], client);
}
FUNCTION(PJRT_Client_Destroy, 11, 24) {
  Client* client = as<Client>(a[2]);
  if (client->children != 0) {
    fprintf(stderr, "a client was destroyed before what it made\n");
    abort();
  }
  delete client;
  return nullptr;
}
FUNCTION(PJRT_Client_PlatformName, 12, 40) {
  a[3] = reinterpret_cast<Word>("fake");
  a[4] = 4;
  return nullptr;
}
FUNCTION(PJRT_Client_PlatformVersion, 14, 40) {
  // No text at all.
  a[3] = 0;
  a[4] = 0;
  return nullptr;
}
FUNCTION(PJRT_Client_AddressableDevices, 16, 40) {
  a[3] = reinterpret_cast<Word>(as<Client>(a[2])->devices);
  a[4] = 1;
  return nullptr;
}
FUNCTION(PJRT_Device_GetDescription, 29, 32) {
  a[3] = hollow == "PJRT_Device_GetDescription" ? 0 : a[2];
  return nullptr;
}
FUNCTION(PJRT_DeviceDescription_Id, 23, 28) {
  *as<int>(reinterpret_cast<Word>(a + 3)) = 7;
  return nullptr;
}
FUNCTION(PJRT_DeviceDescription_Kind, 26, 40) {
  Device* device = as<Device>(a[2]);
  a[3] = reinterpret_cast<Word>(device->kind.data());
  a[4] = device->kind.size();
  return nullptr;
}
FUNCTION(PJRT_DeviceDescription_Attributes, 25, 40) {
  Device* device = as<Device>(a[2]);
  a[3] = device->attributes.size();
  a[4] = reinterpret_cast<Word>(device->attributes.data());
  return nullptr;
}
FUNCTION(PJRT_Device_MemoryStats, 34, 185) {
  a[3] = 100;  // in use
  a[4] = 200;  // peak, without its flag
  a[10] = 300; // limit, with its flag
  *as<unsigned char>(reinterpret_cast<Word>(a + 11)) = 1;
  return nullptr;
}

// ---- programs ----

static Error* look_at_program(Word* a, int program, int options) {
  Word* code = as<Word>(a[program]);
  if (code[0] < 48) return new Error(INVALID_ARGUMENT, "the program's struct is too short");
  std::string text(as<const char>(code[2]), code[3]), format(as<const char>(code[4]), code[5]);
  if (format != "mlir") return new Error(INVALID_ARGUMENT, "not mlir: " + format);
  if (text.compare(0, 6, "module") != 0) return new Error(INVALID_ARGUMENT, "not a module");
  if (a[options + 1] == 0) abort();  // as XLA does
  return nullptr;
}

FUNCTION(PJRT_Client_Compile, 20, 56) {
  if (Error* error = look_at_program(a, 3, 4)) return error;
  return give("PJRT_Client_Compile", a[6], new Loaded(as<Client>(a[2])));
}
FUNCTION(PJRT_LoadedExecutable_GetExecutable, 51, 32) {
  return give("PJRT_LoadedExecutable_GetExecutable", a[3], new Executable(as<Loaded>(a[2])->client));
}
FUNCTION(PJRT_LoadedExecutable_Destroy, 50, 24) {
  delete as<Loaded>(a[2]);
  return nullptr;
}
FUNCTION(PJRT_Executable_Destroy, 40, 24) {
  delete as<Executable>(a[2]);
  return nullptr;
}
// Every program has two outputs: there must be two arguments.
FUNCTION(PJRT_Executable_NumOutputs, 44, 32) {
  a[3] = 2;
  return nullptr;
}
FUNCTION(PJRT_Executable_GetCostAnalysis, 46, 40) {
  Executable* executable = as<Executable>(a[2]);
  NamedValue& flops = executable->cost[0] = NamedValue{};
  flops.name = "flops";
  flops.name_size = 5;
  flops.kind = 3;
  const float value = 12.5;
  memcpy(&flops.number, &value, sizeof value);
  flops.value_size = 1;
  a[3] = 1;
  a[4] = reinterpret_cast<Word>(executable->cost);
  return nullptr;
}
FUNCTION(PJRT_Executable_GetCompiledMemoryStats, 96, 112) {
  for (int field = 3; field <= 13; field++) a[field] = field;
  if (a[0] >= 120) a[14] = 14;
  return nullptr;
}
FUNCTION(PJRT_Executable_OutputElementTypes, 90, 40) {
  (void)a;
  return new Error(UNIMPLEMENTED, "types are not told");
}
FUNCTION(PJRT_Executable_OutputDimensions, 91, 48) {
  (void)a;
  return new Error(UNIMPLEMENTED, "dimensions are not told");
}
FUNCTION(PJRT_Executable_OptimizedProgram, 48, 32) {
  (void)a;
  return new Error(UNIMPLEMENTED, "the program is not told");
}
FUNCTION(PJRT_LoadedExecutable_Execute, 55, 80) {
  Word* options = as<Word>(a[3]);
  if (options[0] < 112) return new Error(INVALID_ARGUMENT, "the options' struct is too short");
  if (a[5] != 1 || a[6] != 2) return new Error(INVALID_ARGUMENT, "two arguments, one device");
  Buffer** arguments = as<Buffer**>(a[4])[0];
  Buffer** outputs = as<Buffer**>(a[7])[0];
  std::vector<bool> keep(a[6]);
  for (Word i = 0; i < options[8]; i++) keep.at(as<int64_t>(options[7])[i]) = true;
  for (Word i = 0; i < a[6]; i++) {
    if (arguments[i]->donated) return new Error(INVALID_ARGUMENT, "it was donated before");
  }
  for (Word i = 0; i < a[6]; i++) {
    Buffer* output = new Buffer(arguments[i]->client);
    output->type = arguments[i]->type;
    output->dims = arguments[i]->dims;
    output->bytes = arguments[i]->bytes;
    if (!keep[i]) {
      arguments[i]->donated = true;
      arguments[i]->bytes.clear();
    }
    outputs[i] = output;
  }
  if (hollow == "PJRT_LoadedExecutable_Execute") {
    delete outputs[0];
    outputs[0] = nullptr;
  }
  return nullptr;
}

// ---- buffers ----

static size_t element_bytes(int type) {
  static const size_t bytes[] = {0, 1, 1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 2};
  return bytes[type];
}

FUNCTION(PJRT_Client_BufferFromHostBuffer, 22, 120) {
  if (*as<int>(reinterpret_cast<Word>(a + 9)) != 0)
    return new Error(INVALID_ARGUMENT, "other semantics than only during the call");
  if (a[7] || a[8] || a[11] || a[12]) return new Error(INVALID_ARGUMENT, "strides or a layout");
  Client* client = as<Client>(a[2]);
  Buffer* buffer = new Buffer(client);
  buffer->type = *as<int>(reinterpret_cast<Word>(a + 4));
  buffer->dims.assign(as<int64_t>(a[5]), as<int64_t>(a[5]) + a[6]);
  size_t size = element_bytes(buffer->type);
  for (int64_t dim : buffer->dims) size *= dim;
  buffer->bytes.assign(as<unsigned char>(a[3]), as<unsigned char>(a[3]) + size);
  a[13] = reinterpret_cast<Word>(new Event(client));
  return give("PJRT_Client_BufferFromHostBuffer", a[14], buffer);
}
FUNCTION(PJRT_Buffer_Destroy, 58, 24) {
  delete as<Buffer>(a[2]);
  return nullptr;
}
FUNCTION(PJRT_Buffer_ElementType, 59, 28) {
  *as<int>(reinterpret_cast<Word>(a + 3)) = as<Buffer>(a[2])->type;
  return nullptr;
}
FUNCTION(PJRT_Buffer_Dimensions, 60, 40) {
  Buffer* buffer = as<Buffer>(a[2]);
  a[3] = reinterpret_cast<Word>(buffer->dims.data());
  a[4] = buffer->dims.size();
  return nullptr;
}
FUNCTION(PJRT_Buffer_ReadyEvent, 72, 32) {
  return give("PJRT_Buffer_ReadyEvent", a[3], new Event(as<Buffer>(a[2])->client));
}
FUNCTION(PJRT_Buffer_ToHostBuffer, 70, 56) {
  Buffer* buffer = as<Buffer>(a[2]);
  Word* layout = as<Word>(a[3]);
  const size_t rank = buffer->dims.size();
  if (!layout || layout[0] < 76 || layout[2] < 56 || layout[5] != rank || layout[8] != 0)
    return new Error(INVALID_ARGUMENT, "the layout is not tiled without tiles");
  for (size_t i = 0; i < rank; i++)
    if (as<int64_t>(layout[4])[i] != int64_t(rank - 1 - i))
      return new Error(INVALID_ARGUMENT, "the layout is not row-major");
  if (a[5] < buffer->bytes.size()) return new Error(INVALID_ARGUMENT, "dst is too small");
  unsigned char* dst = as<unsigned char>(a[4]);
  if (hollow == "PJRT_Buffer_ToHostBuffer") {
    // Without an event it still writes, later: the memory must not be anyone else's then.
    std::thread([bytes = buffer->bytes, dst] {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
      memset(dst, 0xAA, bytes.size());
    }).detach();
    a[6] = 0;
    return nullptr;
  }
  Event* event = new Event(buffer->client);
  event->work = std::thread([bytes = buffer->bytes, dst] {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    memcpy(dst, bytes.data(), bytes.size());
  });
  a[6] = reinterpret_cast<Word>(event);
  return nullptr;
}

// ---- topologies ----

FUNCTION(PJRT_TopologyDescription_Create, 82, 56) {
  std::string name(as<const char>(a[2]), a[3]);
  if (name != "fake:1x2") return new Error(INVALID_ARGUMENT, "no topology " + name);
  return give("PJRT_TopologyDescription_Create", a[6], new Topology);
}
FUNCTION(PJRT_TopologyDescription_Destroy, 83, 24) {
  delete as<Topology>(a[2]);
  return nullptr;
}
FUNCTION(PJRT_TopologyDescription_PlatformName, 84, 40) {
  a[3] = reinterpret_cast<Word>("fake");
  a[4] = 4;
  return nullptr;
}
FUNCTION(PJRT_TopologyDescription_PlatformVersion, 85, 40) {
  a[3] = reinterpret_cast<Word>("1");
  a[4] = 1;
  return nullptr;
}
FUNCTION(PJRT_TopologyDescription_GetDeviceDescriptions, 86, 40) {
  a[3] = reinterpret_cast<Word>(as<Topology>(a[2])->devices);
  a[4] = 2;
  return nullptr;
}
FUNCTION(PJRT_Compile, 89, 64) {
  if (Error* error = look_at_program(a, 3, 4)) return error;
  return give("PJRT_Compile", a[7], new Executable(nullptr));
}

extern "C" const Table* GetPjrtApi() {
  table.size = TABLE_BYTES;
  table.version_size = 24;
  table.major = 0;
  table.minor = 81;
  (void)entered_errors;
  return &table;
}
