/* libcuda, the part of CUDA that comes with a node's driver, loaded when the program starts instead of being linked to it.
 *
 * A program that is linked to libcuda.so.1 does not start where there is no driver, so it cannot say what is missing. This archive
 * takes that library's place at link time. Each of its functions jumps to the driver's; without a driver each one returns
 * CUDA_ERROR_STUB_LIBRARY, which is CUDA's own word for it. SYMBOLS is the list of functions in the pinned cuda.h.
 */
#include <dlfcn.h>

#ifndef __x86_64__
#error "the jumps are written for x86-64 only"
#endif

static int no_driver(void) { return 34; /* CUDA_ERROR_STUB_LIBRARY */ }
static int older_driver(void) { return 500; /* CUDA_ERROR_NOT_FOUND */ }

#define SYMBOL(name) \
	__attribute__((visibility("hidden"))) void *framewright_##name = (void *)no_driver; \
	__asm__(".text\n.p2align 4\n.globl " #name "\n.type " #name ", @function\n" #name ":\n" \
		"\tendbr64\n\tjmp *framewright_" #name "(%rip)\n.size " #name ", . - " #name "\n");
#include SYMBOLS
#undef SYMBOL

__attribute__((constructor)) static void load(void) {
	void *driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_LOCAL);
	if (!driver)
		return;
	void *found;
#define SYMBOL(name) \
	found = dlsym(driver, #name); \
	framewright_##name = found ? found : (void *)older_driver;
#include SYMBOLS
#undef SYMBOL
}
