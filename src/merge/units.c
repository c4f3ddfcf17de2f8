/*
 * merge/units.c - which chunks must be merged together.
 *
 * Chunks stand in key order. Bounds are not always exact: a wide first key is cut (so it is a lower bound), a wide
 * last key is rounded up. Two chunks whose bounds overlap, or whose bounds are equal (equal rows of a table without a
 * key may end one chunk and begin the next), go into one unit; between units no row and no change is in doubt.
 */
#include "merge/merge.h"

uint32_t merge_units(const struct merge_bounds *bounds, uint32_t count, uint32_t *ret_of)
{
    struct slice last = slice_of(NULL, 0); /* the highest of the unit */
    bool open = false;                     /* the unit's end is unknown */
    uint32_t units = 0;

    for (uint32_t i = 0; i < count; i++) {
        bool begins = i == 0 || (!open && slice_compare(last, bounds[i].first) < 0);

        units += begins;
        ret_of[i] = units - 1;
        open = !bounds[i].last.p;
        if (begins || slice_compare(bounds[i].last, last) > 0)
            last = bounds[i].last;
    }
    return units;
}
