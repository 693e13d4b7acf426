/* A stand-in for NVIDIA's management library that plays a script, so that the unmodified Python binding reads
 * counters whose true energy is known, in child processes too.
 *
 * NVML_STANDIN names the script. Its first line is the result of nvmlInit; then follows one line a device:
 *
 *     tick_ms mig counter lost_after_s reset_after_s at_s:watts [at_s:watts ...]
 *
 * Time starts at the first nvmlInit. The power holds from each at_s to the next. The counter is the integral up to
 * the last tick, in mJ, and starts at 1 MJ, as on a machine that has been up; a reset sets it to 0. Negative times
 * mean never.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, GPU_IS_LOST = 15 };
enum { MAX_DEVICES = 16, MAX_STEPS = 32, START_MJ = 1000000000 };

struct device {
    int index, mig, counter, steps;
    double tick_ms, lost_after_s, reset_after_s;
    double at_s[MAX_STEPS], watts[MAX_STEPS];
};

static struct device devices[MAX_DEVICES];
static int count, init_result = UNINITIALIZED;
static double epoch_s = -1;

static double now_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static int parse(char *line, struct device *d)
{
    int used;
    if (sscanf(line, "%lf %d %d %lf %lf%n", &d->tick_ms, &d->mig, &d->counter, &d->lost_after_s,
               &d->reset_after_s, &used) != 5)
        return 0;
    for (d->steps = 0; d->steps < MAX_STEPS; d->steps++) {
        line += used;
        if (sscanf(line, " %lf:%lf%n", &d->at_s[d->steps], &d->watts[d->steps], &used) != 2)
            break;
    }
    return 1;
}

/* The first call reads the script; time.monotonic() of that moment is what standin_epoch_s returns. */
int nvmlInitWithFlags(unsigned flags)
{
    char line[4096];
    FILE *script;
    (void)flags;
    if (epoch_s >= 0)
        return init_result;
    script = fopen(getenv("NVML_STANDIN"), "r");
    if (!script || !fgets(line, sizeof line, script) || sscanf(line, "%d", &init_result) != 1)
        abort();
    while (count < MAX_DEVICES && fgets(line, sizeof line, script) && parse(line, &devices[count])) {
        devices[count].index = count;
        count++;
    }
    fclose(script);
    epoch_s = now_s();
    return init_result;
}

int nvmlShutdown(void) { return SUCCESS; }

double standin_epoch_s(void) { return epoch_s; }

int nvmlDeviceGetCount_v2(unsigned *n)
{
    *n = count;
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device)
{
    if (index >= (unsigned)count)
        return INVALID_ARGUMENT;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetUUID(struct device *device, char *uuid, unsigned length)
{
    snprintf(uuid, length, "GPU-standin-%d", device->index);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, struct device **device)
{
    int index;
    if (sscanf(uuid, "GPU-standin-%d", &index) != 1 || index < 0 || index >= count)
        return NOT_FOUND;
    *device = &devices[index];
    return SUCCESS;
}

int nvmlDeviceGetMigMode(struct device *device, unsigned *current, unsigned *pending)
{
    *current = *pending = device->mig;
    return SUCCESS;
}

static double energy_mj(const struct device *d, double from_s, double to_s)
{
    double sum = 0;
    for (int i = 0; i < d->steps; i++) {
        double begin_s = fmax(d->at_s[i], from_s);
        double end_s = i + 1 < d->steps ? fmin(d->at_s[i + 1], to_s) : to_s;
        sum += d->watts[i] * fmax(0, end_s - begin_s) * 1000;
    }
    return sum;
}

int nvmlDeviceGetTotalEnergyConsumption(struct device *device, uint64_t *mj)
{
    double t_s = now_s() - epoch_s;
    double tick_s = floor(t_s * 1000 / device->tick_ms) * device->tick_ms / 1000;
    if (!device->counter)
        return NOT_SUPPORTED;
    if (device->lost_after_s >= 0 && t_s >= device->lost_after_s)
        return GPU_IS_LOST;
    if (device->reset_after_s >= 0 && t_s >= device->reset_after_s)
        *mj = llround(energy_mj(device, device->reset_after_s, tick_s));
    else
        *mj = START_MJ + llround(energy_mj(device, 0, tick_s));
    return SUCCESS;
}
