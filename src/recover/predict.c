/*
 * recover/predict.c - how long a recovery will take, from how long others took.
 *
 * Phases whose work follows the bytes are scaled by them, the reading of changes by the transactions, and what starts and stops servers
 * takes as long as it took. The median of the last proofs counts. A phase of a proof with little in it tells what it costs to begin, not what a
 * transaction or a byte costs: it is taken to have had at least as much as BASE says.
 */
#include <stdlib.h>

#include "recover/plan.h"

#define PROOFS_MAX 5
#define PROOFS_LISTED 8 /* some may say nothing */
#define BASE_BYTES (16.0 * (1 << 20))
#define BASE_TRANSACTIONS 20000.0

enum scale { SCALE_NONE, SCALE_BYTES, SCALE_TRANSACTIONS };

static enum scale scale_of(const char *phase)
{
    static const char *const by_bytes[] = {"load", "indexes", "analyze", "verify", "sequences"};

    for (size_t i = 0; i < sizeof by_bytes / sizeof *by_bytes; i++) {
        if (strcmp(phase, by_bytes[i]) == 0)
            return SCALE_BYTES;
    }
    return strcmp(phase, "plan") == 0 ? SCALE_TRANSACTIONS : SCALE_NONE;
}

static double ratio(double now, double then, double base)
{
    if (then >= base)
        return now / then;
    return now > base ? now / base : 1;
}

static double from_proof(const json_t *proof, double bytes, double transactions)
{
    double bytes_then = json_number_value(json_object_get(proof, "bytes"));
    double transactions_then = json_number_value(json_object_get(proof, "transactions"));
    const json_t *phase;
    double sum = 0;
    size_t i;

    json_array_foreach(json_object_get(proof, "phases"), i, phase)
    {
        const char *name = json_string_value(json_object_get(phase, "name"));
        double seconds = json_number_value(json_object_get(phase, "seconds"));

        if (!name)
            continue;
        if (scale_of(name) == SCALE_BYTES)
            seconds *= ratio(bytes, bytes_then, BASE_BYTES);
        if (scale_of(name) == SCALE_TRANSACTIONS)
            seconds *= ratio(transactions, transactions_then, BASE_TRANSACTIONS);
        sum += seconds;
    }
    return sum;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

double predict_seconds(const json_t *proofs, uint64_t bytes, uint64_t transactions)
{
    double found[PROOFS_MAX];
    size_t count = 0, i;
    const json_t *proof;

    json_array_foreach(proofs, i, proof)
    {
        double seconds = count < PROOFS_MAX ? from_proof(proof, (double)bytes, (double)transactions) : 0;

        if (seconds > 0)
            found[count++] = seconds;
    }
    if (count == 0)
        return 0;
    qsort(found, count, sizeof *found, by_value);
    return found[count / 2];
}

int recover_predict(struct vault *v, const char *source, uint64_t bytes, uint64_t transactions, double *ret_s, struct error *err)
{
    JSON_AUTO proofs = NULL;

    TRY(proof_list(v, source, PROOFS_LISTED, &proofs, err));
    *ret_s = predict_seconds(proofs, bytes, transactions);
    return 0;
}
