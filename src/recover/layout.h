/*
 * recover/layout.h - what the rows of tables are made of, as the state of a schema and the records of changes say it (docs/formats/snapshots.md,
 * "Layout"). For src/recover alone.
 */
#ifndef SALVOR_RECOVER_LAYOUT_H
#define SALVOR_RECOVER_LAYOUT_H

#include "event/relation.h"

struct layout_column {
    uint32_t number; /* for life; the next one is greater, whatever was dropped */
    char *name;
    uint32_t type_id;
    int32_t type_modifier;
    char *missing; /* of rows from before the column; NULL: they have NULL */
};

struct layout_table {
    uint32_t id;
    char *schema, *name; /* NULL in a record: an object's name may change without it */
    uint32_t file;         /* another one: the rows were rewritten or removed */
    uint32_t columns_made; /* the greatest number so far */
    char identity;         /* pg_class.relreplident */
    uint32_t keys_count;
    uint32_t *keys; /* numbers, of the index that identifies rows */
    uint32_t columns_count;
    struct layout_column *columns; /* with data, by number */
    bool member;    /* of an extension */
    bool named;     /* has a column whose text depends on the names of other objects */
    bool generated; /* has a generated column */
    bool made, permanent; /* of a record */
    bool counted;         /* of a record: the server counts changes, */
    uint64_t changed;     /* and so many updates and deletes of rows the transaction had tried by then */
};
void layout_table_release(struct layout_table *t);
void layout_table_copy(const struct layout_table *from, struct layout_table *to); /* to is overwritten */

struct layout {
    uint32_t record; /* id of the table of records; 0: there is none that can be trusted */
    bool code;       /* a record: a function was touched that values of a type are read or written by */
    bool others;     /* a record: event triggers that are not Salvor's may have written rows behind the command and before the record */
    size_t count;
    struct layout_table *tables; /* by id, ascending, where it is a state */
    json_t *enums;               /* {label's id: label}; owned */
    json_t *composites;          /* of a state: {type's id: its attributes, and how many it has ever had}; owned */
};
void layout_release(struct layout *l);

/* record: it is one of the stream, else the state of a schema. Errors: CORRUPT. */
MUST_CHECK int layout_read(const json_t *j, bool record, struct layout *ret, struct error *err);

/* The table of a state, by its id; NULL. */
const struct layout_table *layout_find(const struct layout *l, uint32_t id);

/* As the stream and the snapshots describe it; schema and name of `named`. */
void layout_relation(const struct layout_table *t, const char *schema, const char *name, struct relation *ret);

/* Its rows are identified by columns that are sent. */
bool layout_keyed(const struct layout_table *t);
/* By these or by the whole row: updates and deletes are captured. */
bool layout_identified(const struct layout_table *t);
/* Makes it one of those that identify its rows; a column that it has not is put behind the others. */
void layout_add_key(struct layout_table *t, const struct layout_column *c);
/* Both identify rows by the same columns, or neither does by columns. */
bool layout_same_key(const struct layout_table *a, const struct layout_table *b);
bool layout_same_columns(const struct layout_table *a, const struct layout_table *b); /* their numbers */
/*
 * Do values that were not rewritten read the same in both types? A type writes its values without regard to the modifier, and text and varchar write
 * alike. That nothing was rewritten is for the caller to know: by the table's file.
 */
bool layout_same_text(const struct layout_column *a, const struct layout_column *b);
/* The index of a column by its number; UINT32_MAX. */
uint32_t layout_column(const struct layout_table *t, uint32_t number);

#endif
