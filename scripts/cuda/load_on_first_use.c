/* In: the name of a function of one CUDA library. Out: its address there, or that of a function that returns the
   library's own error code, so that a missing library is an error like any other and no crash. The file names are
   tried in order, where the dynamic loader looks (LD_LIBRARY_PATH). */
#include <dlfcn.h>
#include <pthread.h>

static const char *const file_names[] = {FILE_NAMES};
static void *library;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void load(void) {
    for (unsigned i = 0; i < sizeof file_names / sizeof *file_names && !library; i++)
        library = dlopen(file_names[i], RTLD_NOW | RTLD_GLOBAL);
}

static int missing(void) { return ERROR_CODE; }

__attribute__((visibility("hidden"))) void *FIND_FUNCTION(const char *name) {
    pthread_once(&once, load);
    void *found = library ? dlsym(library, name) : 0;
    return found ? found : (void *)missing;
}
