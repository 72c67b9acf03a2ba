// A library of which only the name matters.
extern "C" __attribute__((visibility("default"))) int STUB() { return 0; }
