// Rates of llama.cpp, or of ik_llama.cpp with -DIK: what `fathom bench prefill`, `decode` and `batch`
// measure, on the same files, one token fed after another, nothing sampled.
//
//   llama_rate MODEL [--threads 2] [--rounds 3] [--flash 1] [--cache f16] [--repack 1] [--mmap 1]
//              [--ubatch 512] [--unified 0] [--mla 3] [--lite 0] [--state DIR] [--turns] JOB…
//
// Jobs: prefill:TOKENS, decode:TOKENS@DEPTH, batch:SEQUENCES:PROMPT:TOKENS, first:PROMPT (from the start
// of the program to the first token). Prints a line of JSON per round. With --turns it says {"ready": …}
// before each round and waits for a line on stdin, so that several programs can take turns. With --state
// the cache of a depth is kept in DIR, to be filled once only. --lite 1 opens files of V2-Lite's kind that
// have neither its 27 layers, by which llama.cpp knows them, nor a vocabulary.

#define _GNU_SOURCE
#include "llama.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static const char * model_path;
static struct {
    int threads, rounds, flash, repack, mmap, ubatch, unified, mla, lite, turns;
    enum ggml_type cache;
    const char * state;
} set = { 2, 3, 1, 1, 1, 512, 0, 3, 0, 0, GGML_TYPE_F16, NULL };

static struct llama_model * model;
static int n_vocab;
static double started;
static uint64_t seed = 7;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void quiet(enum ggml_log_level level, const char * text, void * data) {
    (void) data;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static void fail(const char * what) {
    fprintf(stderr, "llama_rate: %s\n", what);
    exit(1);
}

static int random_token(void) {
    seed = seed * 6364136223846793005u + 1442695040888963407u;
    return (int) ((seed >> 33) % (uint64_t) n_vocab);
}

static long peak_rss_bytes(void) {
    FILE * file = fopen("/proc/self/status", "r");
    char line[256];
    long kib = 0;
    while (file && fgets(line, sizeof line, file)) {
        if (sscanf(line, "VmHWM: %ld", &kib) == 1) break;
    }
    if (file) fclose(file);
    return kib * 1024;
}

// Both programs hold the cache behind different names.
#ifdef IK
#define CLEAR(ctx) llama_kv_cache_clear(ctx)
#define CUT(ctx, from) llama_kv_cache_seq_rm(ctx, 0, from, -1)
#define VOCAB(model) llama_n_vocab(model)
#define llama_model_free llama_free_model
#else
#define CLEAR(ctx) llama_memory_clear(llama_get_memory(ctx), false)
#define CUT(ctx, from) llama_memory_seq_rm(llama_get_memory(ctx), 0, from, -1)
#define VOCAB(model) llama_vocab_n_tokens(llama_model_get_vocab(model))
#endif

static void load(void) {
    llama_log_set(quiet, NULL);
    llama_backend_init();
    struct llama_model_params params = llama_model_default_params();
    params.n_gpu_layers = 0;
    struct llama_model_kv_override overrides[3];
    memset(overrides, 0, sizeof overrides);
    overrides[0].tag = LLAMA_KV_OVERRIDE_TYPE_STR;
    strcpy(overrides[0].key, "tokenizer.ggml.model");
    strcpy(overrides[0].val_str, "no_vocab");
    overrides[1].tag = LLAMA_KV_OVERRIDE_TYPE_INT;
    strcpy(overrides[1].key, "deepseek2.attention.q_lora_rank");
    if (set.lite) params.kv_overrides = overrides;
#ifdef IK
    // -rtr repacks while loading, which rules mapping out.
    params.repack_tensors = set.repack;
    params.use_mmap = set.mmap && !set.repack;
    params.mla = set.mla;
    params.flash_attn = set.flash;
#else
    params.use_extra_bufts = set.repack;
    params.load_mode = set.mmap ? LLAMA_LOAD_MODE_MMAP : LLAMA_LOAD_MODE_NONE;
#endif
    model = llama_model_load_from_file(model_path, params);
    if (!model) fail("cannot load the model");
    n_vocab = VOCAB(model);
}

static struct llama_context * context(int n_ctx, int n_sequences) {
    struct llama_context_params params = llama_context_default_params();
    // Sequences that are kept apart get equal parts of the context, in steps of 256.
    params.n_ctx = n_sequences * ((n_ctx + 255) / 256 * 256);
    params.n_batch = 2048;
    params.n_ubatch = set.ubatch;
    params.n_seq_max = n_sequences;
    params.n_threads = params.n_threads_batch = set.threads;
    params.type_k = params.type_v = set.cache;
#ifdef IK
    params.flash_attn = set.flash;
    params.mla_attn = set.mla;
#else
    params.flash_attn_type = set.flash ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
    params.kv_unified = set.unified;
    params.no_perf = true;
#endif
    struct llama_context * ctx = llama_init_from_model(model, params);
    if (!ctx) fail("cannot make a context");
    return ctx;
}

static void put(struct llama_batch * batch, int position, int sequence, int wants_logits) {
    int at = batch->n_tokens++;
    batch->token[at] = random_token();
    batch->pos[at] = position;
    batch->n_seq_id[at] = 1;
    batch->seq_id[at][0] = sequence;
    batch->logits[at] = wants_logits;
}

static void run(struct llama_context * ctx, struct llama_batch * batch) {
    if (batch->n_tokens > 0 && llama_decode(ctx, *batch) != 0) fail("llama_decode refused");
    batch->n_tokens = 0;
}

// Tokens from..to of every sequence, one sequence after another.
static void prompt(struct llama_context * ctx, struct llama_batch * batch, int n_sequences, int from, int to) {
    for (int sequence = 0; sequence < n_sequences; sequence++) {
        for (int at = from; at < to; at++) {
            put(batch, at, sequence, at == to - 1);
            if (batch->n_tokens == 2048) run(ctx, batch);
        }
    }
    run(ctx, batch);
    llama_synchronize(ctx);
}

static void step(struct llama_context * ctx, struct llama_batch * batch, int n_sequences, int position) {
    for (int sequence = 0; sequence < n_sequences; sequence++) put(batch, position, sequence, 1);
    run(ctx, batch);
    llama_synchronize(ctx);
}

static void wait_for_turn(const char * job) {
    if (!set.turns) return;
    printf("{\"ready\": \"%s\"}\n", job);
    fflush(stdout);
    char line[64];
    if (!fgets(line, sizeof line, stdin)) exit(0);
}

static void prefill(const char * job, int n) {
    struct llama_context * ctx = context(n, 1);
    struct llama_batch batch = llama_batch_init(2048, 0, 1);
    prompt(ctx, &batch, 1, 0, n < 64 ? n : 64);
    for (int round = 0; round < set.rounds; round++) {
        wait_for_turn(job);
        CLEAR(ctx);
        double start = now();
        prompt(ctx, &batch, 1, 0, n);
        double seconds = now() - start;
        printf("{\"job\": \"%s\", \"tokens_per_s\": %.4f, \"seconds\": %.5f}\n", job, n / seconds, seconds);
        fflush(stdout);
    }
    llama_batch_free(batch);
    llama_free(ctx);
}

static void fill(struct llama_context * ctx, struct llama_batch * batch, int depth) {
    char path[4096] = "";
    static llama_token none[1];
    size_t n_read = 0;
    if (depth == 0) return;
    if (set.state) {
        const char * name = strrchr(model_path, '/');
#ifdef IK
        const char * program = "ik";
#else
        const char * program = "llama";
#endif
        snprintf(path, sizeof path, "%s/%s-%s-%d-%d-%d-%d.state", set.state, name ? name + 1 : model_path, program,
                 depth, (int) set.cache, set.flash, set.mla);
        if (access(path, R_OK) == 0 && llama_state_load_file(ctx, path, none, 0, &n_read)) return;
        CLEAR(ctx);
    }
    prompt(ctx, batch, 1, 0, depth);
    if (set.state) {
        mkdir(set.state, 0777);
        llama_state_save_file(ctx, path, none, 0);
    }
}

static void decode(const char * job, int n, int depth) {
    struct llama_context * ctx = context(depth + n + 2, 1);
    struct llama_batch batch = llama_batch_init(2048, 0, 1);
    fill(ctx, &batch, depth);
    step(ctx, &batch, 1, depth);
    step(ctx, &batch, 1, depth + 1);
    for (int round = 0; round < set.rounds; round++) {
        wait_for_turn(job);
        CUT(ctx, depth);
        double start = now();
        for (int at = 0; at < n; at++) step(ctx, &batch, 1, depth + at);
        double seconds = now() - start;
        printf("{\"job\": \"%s\", \"tokens_per_s\": %.4f, \"seconds\": %.5f}\n", job, n / seconds, seconds);
        fflush(stdout);
    }
    llama_batch_free(batch);
    llama_free(ctx);
}

static void batch_of(const char * job, int n_sequences, int n_prompt, int n) {
    struct llama_context * ctx = context(n_prompt + n, n_sequences);
    struct llama_batch batch = llama_batch_init(2048, 0, 1);
    prompt(ctx, &batch, 1, 0, 16);
    for (int round = 0; round < set.rounds; round++) {
        wait_for_turn(job);
        CLEAR(ctx);
        double start = now();
        prompt(ctx, &batch, n_sequences, 0, n_prompt);
        double first = now() - start;
        for (int at = 0; at < n; at++) step(ctx, &batch, n_sequences, n_prompt + at);
        double seconds = now() - start;
        printf("{\"job\": \"%s\", \"prompt_tokens_per_s\": %.4f, \"first_token_s\": %.4f, \"tokens_per_s\": %.4f, "
               "\"answer_tokens_per_s\": %.4f, \"total_tokens_per_s\": %.4f}\n",
               job, n_sequences * n_prompt / first, first, n_sequences * n / (seconds - first),
               n_sequences * n / seconds, n_sequences * (n_prompt + n) / seconds);
        fflush(stdout);
    }
    llama_batch_free(batch);
    llama_free(ctx);
}

static void first(const char * job, int n) {
    struct llama_context * ctx = context(n + 16, 1);
    struct llama_batch batch = llama_batch_init(2048, 0, 1);
    prompt(ctx, &batch, 1, 0, n);
    const float * logits = llama_get_logits_ith(ctx, -1);
    int best = 0;
    for (int at = 1; at < n_vocab; at++) if (logits[at] > logits[best]) best = at;
    printf("{\"job\": \"%s\", \"first_token_s\": %.5f, \"peak_rss_bytes\": %ld, \"token\": %d}\n", job,
           now() - started, peak_rss_bytes(), best);
    fflush(stdout);
    llama_batch_free(batch);
    llama_free(ctx);
}

static enum ggml_type type_of(const char * name) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char * known = ggml_type_name((enum ggml_type) type);
        if (known && strcmp(known, name) == 0) return (enum ggml_type) type;
    }
    fail("no such type of cache");
    return GGML_TYPE_F16;
}

int main(int argc, char ** argv) {
    started = now();
    int at = 2;
    if (argc < 3) fail("usage: llama_rate MODEL [OPTION VALUE]… JOB…");
    model_path = argv[1];
    for (; at < argc && strncmp(argv[at], "--", 2) == 0; at += 2) {
        const char * name = argv[at] + 2;
        if (strcmp(name, "turns") == 0) { set.turns = 1; at--; continue; }
        if (at + 1 >= argc) fail("an option without a value");
        const char * value = argv[at + 1];
        if (strcmp(name, "cache") == 0) { set.cache = type_of(value); continue; }
        if (strcmp(name, "state") == 0) { set.state = value; continue; }
        struct { const char * name; int * place; } known[] = {
            { "threads", &set.threads }, { "rounds", &set.rounds }, { "flash", &set.flash }, { "repack", &set.repack },
            { "mmap", &set.mmap }, { "ubatch", &set.ubatch }, { "unified", &set.unified }, { "mla", &set.mla },
            { "lite", &set.lite },
        };
        int * place = NULL;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) if (strcmp(known[i].name, name) == 0) place = known[i].place;
        if (!place) fail("unknown option");
        *place = atoi(value);
    }
    load();
    for (; at < argc; at++) {
        int a = 0, b = 0, c = 0;
        if (sscanf(argv[at], "prefill:%d", &a) == 1 && a > 0) prefill(argv[at], a);
        else if (sscanf(argv[at], "decode:%d@%d", &a, &b) == 2 && a > 0 && b >= 0) decode(argv[at], a, b);
        else if (sscanf(argv[at], "batch:%d:%d:%d", &a, &b, &c) == 3 && a > 0 && b > 0 && c > 0) batch_of(argv[at], a, b, c);
        else if (sscanf(argv[at], "first:%d", &a) == 1 && a > 0) first(argv[at], a);
        else fail("a job is prefill:N, decode:N@DEPTH, batch:SEQUENCES:PROMPT:N or first:N");
    }
    llama_model_free(model);
    llama_backend_free();
    return 0;
}
