/* Answers like NVML on a machine with two H200. Defined at will: INIT, the code that initialising ends
   with; SPLIT, devices are split into two instances; LOST, the first device is; NOT_NVML. */

#include <stdio.h>
#include <string.h>

#ifndef INIT
#define INIT 0
#endif

typedef struct { unsigned long long total, free, used; } nvmlMemory_t;

static int write_text(const char *text, char *buffer, unsigned length) {
    if (strlen(text) >= length) return 7; /* NVML_ERROR_INSUFFICIENT_SIZE */
    strcpy(buffer, text);
    return 0;
}

/* A handle is the index and one; of an instance, 16 and more. */
static unsigned long index_of(void *handle) { return (unsigned long)handle - 1; }

#ifndef NOT_NVML
int nvmlInit_v2(void) { return INIT; }
#endif
int nvmlShutdown(void) { return 0; }

const char *nvmlErrorString(int code) {
    switch (code) {
    case 9: return "Driver Not Loaded";
    case 15: return "GPU is lost";
    default: return "Unknown Error";
    }
}

int nvmlSystemGetDriverVersion(char *buffer, unsigned length) {
    return write_text("570.124.06", buffer, length);
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) { *version = 12080; return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
#ifdef LOST
    if (index == 0) return 15;
#endif
    *device = (void *)(unsigned long)(index + 1);
    return 0;
}

int nvmlDeviceGetName(void *device, char *buffer, unsigned length) {
    return write_text("NVIDIA H200", buffer, length);
}

int nvmlDeviceGetUUID(void *device, char *buffer, unsigned length) {
    char text[32];
    unsigned long index = index_of(device);
    snprintf(text, sizeof text, "%s-%08lx", index < 16 ? "GPU" : "MIG", index);
    return write_text(text, buffer, length);
}

int nvmlDeviceGetMemoryInfo(void *device, nvmlMemory_t *memory) {
    int whole = index_of(device) < 16;
    memory->total = whole ? 150754820096ull : 18000000000ull;
    memory->free = whole ? 150000000000ull : 17000000000ull;
    memory->used = memory->total - memory->free;
    return 0;
}

int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    if (index_of(device) >= 16) return 3; /* NVML_ERROR_NOT_SUPPORTED */
    *major = 9;
    *minor = 0;
    return 0;
}

#ifdef SPLIT
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *next) {
    *now = *next = 1;
    return 0;
}

int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) { *count = 7; return 0; }

int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned place, void **instance) {
    if (place >= 2) return 6; /* NVML_ERROR_NOT_FOUND */
    *instance = (void *)(index_of(device) * 16 + 16 + place + 1);
    return 0;
}
#endif
