/* A stand-in for the CUDA driver that knows whether it has been initialised in this process, and no device. */

enum { CUDA_SUCCESS, CUDA_ERROR_NOT_INITIALIZED = 3 };

static int initialised;

int cuInit(unsigned flags)
{
    (void)flags;
    initialised = 1;
    return CUDA_SUCCESS;
}

int cuDeviceGetCount(int *count)
{
    *count = 0;
    return initialised ? CUDA_SUCCESS : CUDA_ERROR_NOT_INITIALIZED;
}
