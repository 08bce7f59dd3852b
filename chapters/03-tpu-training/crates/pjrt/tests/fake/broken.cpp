// Plugins that do not load, for tests. Macros choose: NO_ENTRY_POINT, NULL_TABLE, MAJOR and
// TABLE_BYTES; one with none of them loads as far as PJRT_Plugin_Initialize, which fails.

#include <cstddef>
#include <cstdint>

#ifndef MAJOR
#define MAJOR 0
#endif
#ifndef TABLE_BYTES
#define TABLE_BYTES sizeof(Table)
#endif

using Word = uintptr_t;

static void error_destroy(Word*) {}
static void error_message(Word* a) {
  static const char message[] = "no such chip here";
  a[3] = reinterpret_cast<Word>(message);
  a[4] = sizeof message - 1;
}
static Word* error_code(Word* a) {
  *reinterpret_cast<int*>(a + 3) = 12;  // UNIMPLEMENTED
  return nullptr;
}
static Word* plugin_initialize(Word* a) { return a; }

struct Table {
  size_t size;
  void* extensions;
  size_t version_size;
  void* version_extensions;
  int major, minor;
  void* slots[118];
};
static Table table = {TABLE_BYTES,
                      nullptr,
                      24,
                      nullptr,
                      MAJOR,
                      81,
                      {reinterpret_cast<void*>(error_destroy),
                       reinterpret_cast<void*>(error_message),
                       reinterpret_cast<void*>(error_code),
                       reinterpret_cast<void*>(plugin_initialize)}};

extern "C" Table*
#ifdef NO_ENTRY_POINT
SomethingElse() {
#else
GetPjrtApi() {
#endif
#ifdef NULL_TABLE
  return nullptr;
#else
  return &table;
#endif
}
