/* As much of a driver as a worker asks before it opens a GPU. What it answers is in the environment. */
#include <stdlib.h>
#include <string.h>

static int answer(const char *name) {
	const char *text = getenv(name);
	return text ? atoi(text) : 0;
}

int cuInit(unsigned flags) {
	(void)flags;
	return answer("DRIVER_INIT");
}

int cuDriverGetVersion(int *version) {
	*version = answer("DRIVER_CUDA");
	return 0;
}

int cuDeviceGet(int *device, int ordinal) {
	*device = ordinal;
	return ordinal < answer("DRIVER_GPUS") ? 0 : 101;
}

int cuDeviceGetName(char *name, int length, int device) {
	(void)device;
	strncpy(name, "Pretended GPU", (size_t)length);
	return 0;
}

int cuDeviceGetAttribute(int *value, int attribute, int device) {
	(void)device;
	/* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR */
	*value = attribute == 75 ? answer("DRIVER_CAPABILITY") / 10 : attribute == 76 ? answer("DRIVER_CAPABILITY") % 10 : 0;
	return 0;
}

int cuDevicePrimaryCtxRetain(void **context, int device) {
	(void)device;
	static int only;
	*context = &only;
	return answer("DRIVER_CONTEXT");
}

int cuDevicePrimaryCtxRelease_v2(int device) {
	(void)device;
	return 0;
}

static void *current;

int cuCtxGetCurrent(void **context) {
	*context = current;
	return 0;
}

int cuCtxSetCurrent(void *context) {
	current = context;
	return 0;
}

int cuMemGetInfo_v2(size_t *free, size_t *total) {
	*free = (size_t)answer("DRIVER_FREE_MIB") << 20;
	*total = (size_t)16384 << 20;
	return 0;
}

int cuGetErrorName(int error, const char **name) {
	*name = error == 2 ? "CUDA_ERROR_OUT_OF_MEMORY" : error == 804 ? "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE" : "CUDA_ERROR_SOMETHING";
	return 0;
}
