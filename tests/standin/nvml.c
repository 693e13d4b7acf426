/* A stand-in for NVIDIA's management library that plays a script, so that the unmodified Python binding reads
 * counters and sensors whose truth is known, in child processes and containers too.
 *
 * NVML_STANDIN names the script. Its first line holds three numbers: the result of nvmlInit, the time.monotonic()
 * at which the script's time starts (negative: at the first nvmlInit of each process), and how fast that time goes
 * (1: as the clock; 0: it stands still, and standin_skip moves it). Then follows one line a device, of words
 * `key=value`; `keys` below names them.
 *
 * Times are seconds of the script, negative ones mean never. A curve is `at:value,at:value,...`: each value holds
 * until the next, the first one before its time too; an empty curve is a sensor that the device does not have.
 * Counter and sensors move every tick_ms. The counter is the integral of the power up to the last tick, in mJ, times
 * `factor`, and starts at start_j; a reset sets it to 0.
 */
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS, UNINITIALIZED, INVALID_ARGUMENT, NOT_SUPPORTED, NOT_FOUND = 6, INSUFFICIENT_SIZE };
enum { GPU_IS_LOST = 15, UNKNOWN = 999 };
enum { MAX_DEVICES = 16, MAX_STEPS = 2048, MAX_LINE = 1 << 18 };
enum { TURING = 6, AMPERE = 7, POWER_INSTANT = 186 };

struct curve {
    int steps;
    double at_s[MAX_STEPS], value[MAX_STEPS];
};

struct device {
    int index;
    double tick_ms;                /* between two values of counter and sensors */
    double mig;                    /* whether it is in MIG mode */
    double counter, factor, start_j; /* whether there is an energy counter, what it lies by, where it starts */
    double instant, average_s;     /* whether there is instant power; what the other power is averaged over */
    double lost_after_s, reset_after_s, fail_from_s, fail_until_s;
    double period_s;               /* all curves begin anew so often; 0: never */
    struct curve power, temperature, sm_clock, memory_clock, throttle;
};

static const struct {
    const char *name;
    size_t place;
} keys[] = {
#define KEY(name) {#name, offsetof(struct device, name)}
    KEY(tick_ms), KEY(mig), KEY(counter), KEY(factor), KEY(start_j), KEY(instant), KEY(average_s), KEY(lost_after_s),
    KEY(reset_after_s), KEY(fail_from_s), KEY(fail_until_s), KEY(period_s),
}, curves[] = {
    KEY(power), KEY(temperature), KEY(sm_clock), KEY(memory_clock), KEY(throttle),
#undef KEY
};

static struct device devices[MAX_DEVICES];
static int count, init_result = UNINITIALIZED;
static double epoch_s = -1, speed = 1, skipped_s;

/* --- The script --- */

static void parse_curve(const char *text, struct curve *curve)
{
    int used;
    for (curve->steps = 0; *text; curve->steps++, text += used + (text[used] == ','))
        if (curve->steps == MAX_STEPS ||
            sscanf(text, "%lf:%lf%n", &curve->at_s[curve->steps], &curve->value[curve->steps], &used) != 2)
            abort(); /* a script that is not understood must not look like a device */
}

static void parse_word(const char *word, struct device *device)
{
    size_t length = strcspn(word, "=");
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (strlen(keys[i].name) == length && !strncmp(word, keys[i].name, length)) {
            *(double *)((char *)device + keys[i].place) = atof(word + length + 1);
            return;
        }
    for (size_t i = 0; i < sizeof curves / sizeof *curves; i++)
        if (strlen(curves[i].name) == length && !strncmp(word, curves[i].name, length)) {
            parse_curve(word + length + 1, (struct curve *)((char *)device + curves[i].place));
            return;
        }
    abort();
}

static double clock_s(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

int nvmlInitWithFlags(unsigned flags)
{
    static char line[MAX_LINE];
    FILE *script;
    (void)flags;
    if (epoch_s >= 0)
        return init_result;
    script = fopen(getenv("NVML_STANDIN"), "r");
    if (!script || !fgets(line, sizeof line, script) ||
        sscanf(line, "%d %lf %lf", &init_result, &epoch_s, &speed) != 3)
        abort();
    while (count < MAX_DEVICES && fgets(line, sizeof line, script)) {
        for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n"))
            parse_word(word, &devices[count]);
        devices[count].index = count;
        count++;
    }
    fclose(script);
    if (epoch_s < 0)
        epoch_s = clock_s();
    return init_result;
}

int nvmlShutdown(void) { return SUCCESS; }

/* --- Its clock; these four are for tests --- */

double standin_epoch_s(void) { return epoch_s; }

double standin_now_s(void) { return (clock_s() - epoch_s) * speed + skipped_s; }

void standin_skip(double seconds) { skipped_s += seconds; }

static double tick_s(const struct device *device)
{
    return floor(standin_now_s() * 1000 / device->tick_ms + 1e-9) * device->tick_ms / 1000;
}

/* --- Curves --- */

static double value_at(const struct device *device, const struct curve *curve, double at_s)
{
    int i = curve->steps - 1;
    if (device->period_s > 0)
        at_s -= floor(at_s / device->period_s) * device->period_s;
    while (i > 0 && curve->at_s[i] > at_s)
        i--;
    return curve->value[i];
}

/* The integral of a curve from 0 to `until_s`; the first value held before 0 too. */
static double joules_once(const struct curve *curve, double until_s)
{
    double sum = curve->value[0] * fmin(0, until_s);
    for (int i = 0; i < curve->steps; i++) {
        double begin_s = i ? curve->at_s[i] : 0;
        double end_s = i + 1 < curve->steps ? fmin(curve->at_s[i + 1], until_s) : until_s;
        sum += curve->value[i] * fmax(0, end_s - begin_s);
    }
    return sum;
}

static double joules(const struct device *device, double until_s)
{
    double periods = device->period_s > 0 ? floor(until_s / device->period_s) : 0;
    double rest_s = until_s - periods * device->period_s;
    return periods * joules_once(&device->power, device->period_s) + joules_once(&device->power, rest_s);
}

/* --- Devices --- */

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

/* Power that is no average is what NVML gives before Ampere. */
int nvmlDeviceGetArchitecture(struct device *device, unsigned *architecture)
{
    *architecture = device->average_s > 0 ? AMPERE : TURING;
    return SUCCESS;
}

/* --- Counter and sensors --- */

static int health(const struct device *device)
{
    double now_s = standin_now_s();
    if (device->lost_after_s >= 0 && now_s >= device->lost_after_s)
        return GPU_IS_LOST;
    if (device->fail_from_s >= 0 && now_s >= device->fail_from_s && now_s < device->fail_until_s)
        return UNKNOWN;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(struct device *device, uint64_t *mj)
{
    double reset_s = device->reset_after_s;
    if (!device->counter)
        return NOT_SUPPORTED;
    if (reset_s >= 0 && standin_now_s() >= reset_s)
        *mj = llround(fmax(0, joules(device, tick_s(device)) - joules(device, reset_s)) * 1000 * device->factor);
    else
        *mj = llround((device->start_j + joules(device, tick_s(device)) * device->factor) * 1000);
    return health(device);
}

int nvmlDeviceGetPowerUsage(struct device *device, unsigned *mw)
{
    double until_s = tick_s(device), average_s = device->average_s;
    double watts = average_s > 0
        ? (joules(device, until_s) - joules(device, until_s - average_s)) / average_s
        : value_at(device, &device->power, until_s);
    if (!device->power.steps)
        return NOT_SUPPORTED;
    *mw = lround(watts * 1000);
    return health(device);
}

struct field {
    unsigned id, scope;
    int64_t timestamp, latency_us;
    int type, result;
    union {
        double real;
        unsigned whole;
        uint64_t wide;
    } value;
};

int nvmlDeviceGetFieldValues(struct device *device, int n, struct field *fields)
{
    for (int i = 0; i < n; i++) {
        int there = fields[i].id == POWER_INSTANT && device->instant && device->power.steps;
        fields[i].result = there ? SUCCESS : NOT_SUPPORTED;
        if (there)
            fields[i].value.whole = lround(value_at(device, &device->power, tick_s(device)) * 1000);
    }
    return health(device);
}

static int sense(const struct device *device, const struct curve *curve, double *value)
{
    if (!curve->steps)
        return NOT_SUPPORTED;
    *value = value_at(device, curve, tick_s(device));
    return health(device);
}

static int number(int line, const char *key, unsigned *value);

/* The script's curve, or what the device's line of the facts says now. */
int nvmlDeviceGetTemperature(struct device *device, int sensor, unsigned *celsius)
{
    double value = 0;
    int result = sense(device, &device->temperature, &value);
    (void)sensor;
    *celsius = value;
    return number(device->index + 1, "celsius", celsius) == SUCCESS ? health(device) : result;
}

int nvmlDeviceGetClockInfo(struct device *device, int type, unsigned *mhz)
{
    double value = 0;
    int result = sense(device, type == 2 ? &device->memory_clock : &device->sm_clock, &value);
    *mhz = value;
    return result;
}

int nvmlDeviceGetCurrentClocksThrottleReasons(struct device *device, uint64_t *reasons)
{
    double value = 0;
    int result = sense(device, &device->throttle, &value);
    *reasons = value;
    return result;
}

/* --- Name and memory --- */

int nvmlDeviceGetName(struct device *device, char *name, unsigned length)
{
    snprintf(name, length, "Stand-in %d", device->index);
    return health(device);
}

/* What a device's memory holds: NVML_STANDIN_MEMORY names a file, read anew at each call, with one line a device:
 *
 *     total_mb used_mb [C:pid:mb ...] [G:pid:mb ...]
 *
 * C computes, G draws; mb -1: not reported. A line without numbers: not supported. */
struct memory {
    unsigned long long total, free, used;
};

struct process {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
};

static int memory_line(const struct device *device, char *line, int length)
{
    const char *name = getenv("NVML_STANDIN_MEMORY");
    FILE *file = name ? fopen(name, "r") : NULL;
    int at = -1;
    while (file && at < device->index && fgets(line, length, file))
        at++;
    if (file)
        fclose(file);
    return at == device->index ? health(device) : NOT_SUPPORTED;
}

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory)
{
    char line[4096];
    unsigned long long total_mb, used_mb;
    int result = memory_line(device, line, sizeof line);
    if (result != SUCCESS)
        return result;
    if (sscanf(line, "%llu %llu", &total_mb, &used_mb) != 2)
        return NOT_SUPPORTED;
    *memory = (struct memory){total_mb << 20, (total_mb - used_mb) << 20, used_mb << 20};
    return SUCCESS;
}

static int processes(const struct device *device, char kind, unsigned *n, struct process *list)
{
    char line[4096], found;
    unsigned pid, room = *n;
    long long mb;
    int result = memory_line(device, line, sizeof line);
    if (result != SUCCESS)
        return result;
    if (!strpbrk(line, "0123456789"))
        return NOT_SUPPORTED;
    *n = 0;
    for (char *word = strtok(line, " \n"); word; word = strtok(NULL, " \n")) {
        if (sscanf(word, "%c:%u:%lld", &found, &pid, &mb) != 3 || found != kind)
            continue;
        if (*n < room)
            list[*n] = (struct process){pid, mb < 0 ? ~0ull : (unsigned long long)mb << 20, ~0u, ~0u};
        ++*n;
    }
    return *n > room ? INSUFFICIENT_SIZE : SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(struct device *device, unsigned *n, struct process *list)
{
    return processes(device, 'C', n, list);
}

int nvmlDeviceGetGraphicsRunningProcesses_v3(struct device *device, unsigned *n, struct process *list)
{
    return processes(device, 'G', n, list);
}

/* --- What machine and devices are --- */

/* NVML_STANDIN_FACTS names a file, read anew at each call: a line for the machine, then one a device, of words
 * `key=value`. What is not there is not supported. */
static int fact(int number, const char *key, char *value, unsigned length)
{
    static char line[4096];
    const char *name = getenv("NVML_STANDIN_FACTS");
    FILE *file = name ? fopen(name, "r") : NULL;
    size_t size = strlen(key);
    int at = -1;
    while (file && at < number && fgets(line, sizeof line, file))
        at++;
    if (file)
        fclose(file);
    for (char *word = at == number ? strtok(line, " \n") : NULL; word; word = strtok(NULL, " \n"))
        if (!strncmp(word, key, size) && word[size] == '=') {
            snprintf(value, length, "%s", word + size + 1);
            return SUCCESS;
        }
    return NOT_SUPPORTED;
}

static int number(int line, const char *key, unsigned *value)
{
    char text[32];
    int result = fact(line, key, text, sizeof text);
    if (result == SUCCESS)
        *value = strtoul(text, NULL, 10);
    return result;
}

int nvmlSystemGetDriverVersion(char *text, unsigned length) { return fact(0, "driver", text, length); }

int nvmlSystemGetCudaDriverVersion_v2(int *version) { return number(0, "cuda", (unsigned *)version); }

int nvmlDeviceGetVbiosVersion(struct device *device, char *text, unsigned length)
{
    return fact(device->index + 1, "vbios", text, length);
}

#define NUMBER(function, key) \
    int function(struct device *device, unsigned *value) { return number(device->index + 1, key, value); }
NUMBER(nvmlDeviceGetPowerManagementLimit, "power_limit_mw")
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, "default_power_limit_mw")
NUMBER(nvmlDeviceGetEnforcedPowerLimit, "enforced_power_limit_mw")
NUMBER(nvmlDeviceGetPersistenceMode, "persistence")
NUMBER(nvmlDeviceGetComputeMode, "compute_mode")
NUMBER(nvmlDeviceGetCurrPcieLinkGeneration, "pcie_generation")
NUMBER(nvmlDeviceGetMaxPcieLinkGeneration, "max_pcie_generation")
NUMBER(nvmlDeviceGetCurrPcieLinkWidth, "pcie_width")

/* As text, such as `capability=8.9`. */
int nvmlDeviceGetCudaComputeCapability(struct device *device, int *major, int *minor)
{
    char text[32];
    int result = fact(device->index + 1, "capability", text, sizeof text);
    if (result == SUCCESS && sscanf(text, "%d.%d", major, minor) != 2)
        abort();
    return result;
}

int nvmlDeviceGetMaxClockInfo(struct device *device, int type, unsigned *mhz)
{
    return number(device->index + 1, type == 2 ? "max_memory_mhz" : "max_sm_mhz", mhz);
}

int nvmlDeviceGetEccMode(struct device *device, unsigned *current, unsigned *pending)
{
    *pending = 0;
    return number(device->index + 1, "ecc", current);
}
