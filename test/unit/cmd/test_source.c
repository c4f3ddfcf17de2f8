/*
 * cmd/source and cmd/late: what becomes of vaults that cannot be opened: missed, there all the same but absent, or the reason to stop; and that one which was
 * not there is tried again, ever more rarely, until it is.
 */
#include "unit.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "cmd/config.h"
#include "cmd/late.h"
#include "os/file.h"
#include "vault/absent.h"

static char *folder, *config_path;

static void write_file(const char *name, const char *text)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    struct error err = ERROR_INIT;

    assert_ok(file_replace(path, slice_str(text), 0600, &err), err);
}

static void make(const char *name, const char *key)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    CLEANUP(mem_free_ptr) char *key_path = key ? mem_printf("%s/%s", folder, key) : NULL;
    const struct vault_config config = {.name = name, .driver = "posix", .path = path, .key = {.passphrase_file = key_path}};
    struct error err = ERROR_INIT;

    assert_ok(vault_make(&config, &err), err);
}

static void lose(const char *name)
{
    CLEANUP(mem_free_ptr) char *path = mem_printf("%s/%s", folder, name);
    struct error err = ERROR_INIT;

    assert_ok(dir_remove_all(path, &err), err);
}

/* secret: main is encrypted. */
static void load(struct config *c, bool secret)
{
    CLEANUP(mem_free_ptr) char *key = secret ? mem_printf("passphrase_file = %s/words\n", folder) : mem_strdup("");
    CLEANUP(mem_free_ptr) char *text = mem_printf("[salvor]\nstate = %s/state\n[vault main]\npath = %s/main\n%s[vault west]\npath = %s/west\n"
                                                  "[source shop]\nvault = main, west\nconninfo = host=nowhere\n",
                                                  folder, folder, key, folder);
    struct error err = ERROR_INIT;

    assert_ok(config_parse(slice_str(text), config_path, c, &err), err);
}

static int folder_new(void **state)
{
    (void)state;
    folder = unit_folder();
    config_path = mem_printf("%s/salvor.conf", folder);
    write_file("words", "a passphrase that is long enough\n");
    return 0;
}

static int folder_gone(void **state)
{
    struct error err = ERROR_INIT;
    int rc = dir_remove_all(folder, &err);

    (void)state;
    free(folder);
    free(config_path);
    return rc;
}

static void one_that_is_not_there_is_absent(void **state)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    make("west", NULL);
    load(&c, false);
    assert_fails(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS, &s, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "vault main");
    /* Read from, it is not needed; written to, it has its place, in the order of the configuration. */
    assert_ok(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_ANY_VAULT, &s, &err), err);
    assert_int_equal(s.vaults_count, 1);
    assert_string_equal(s.vaults[0]->name, "west");
    assert_int_equal(s.missed_count, 1);
    source_context_release(&s);
    assert_ok(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, &err), err);
    assert_int_equal(s.vaults_count, 2);
    assert_string_equal(s.vaults[0]->name, "main");
    assert_true(vault_is_absent(s.vaults[0]) && !vault_is_absent(s.vaults[1]));
    assert_ptr_equal(source_vault_present(&s), s.vaults[1]);
    assert_int_equal(s.missed_count, 1);
    assert_string_equal(s.missed[0].vault, "main");
    source_context_release(&s);
    /* One is needed. */
    lose("west");
    assert_fails(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "vault main");
}

/* What will not pass by itself is no reason to go on without. */
static void one_that_is_wrong_stops_it(void **state)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    make("main", NULL);
    make("west", "words"); /* and the configuration has no key for it */
    load(&c, false);
    assert_fails(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, &err), err, ERROR_USAGE);
    assert_contains(err.message, "west");
}

/* With its keys what lies on this host is sealed. */
static void not_without_the_vault_whose_keys_seal_the_spool(void **state)
{
    CLEANUP(config_release) struct config c = {0};
    CLEANUP(source_context_release) struct source_context s = {0};
    struct error err = ERROR_INIT;

    (void)state;
    make("main", "words");
    load(&c, true);
    assert_ok(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, &err), err);
    assert_true(!vault_is_absent(s.vaults[0]) && vault_is_absent(s.vaults[1])); /* the other one may be away */
    source_context_release(&s);
    make("west", NULL);
    lose("main");
    assert_fails(source_context_open(&c, "shop", SOURCE_NEEDS_VAULTS | SOURCE_LATE_VAULTS, &s, &err), err, ERROR_NOT_FOUND);
    assert_contains(err.message, "vault main");
}

static int see(void *user, const char *key, uint64_t bytes, struct error *err)
{
    (void)user;
    (void)key;
    (void)bytes;
    (void)err;
    fail_msg("nothing is there");
    return 0;
}

static int see_name(void *user, const char *name, struct error *err) { return see(user, name, 0, err); }

static void no_call_into_an_absent_one_means_that_something_is_missing(void **state)
{
    CLEANUP(buf_release) struct buf out = BUF_INIT(1 << 20);
    const struct slice part = slice_str("x");
    const char *const keys[] = {"a/b"};
    struct error why = ERROR_INIT, err = ERROR_INIT;
    struct vault_capabilities capabilities;
    const struct object_source from = {.fd = -1};
    uint64_t bytes;

    (void)state;
    (void)!error_set(&why, ERROR_NOT_FOUND, "vault main: there is no vault at /nowhere");
    struct vault *v = vault_absent_new("main", &why);
    struct vault_driver *d = v->driver;
    assert_string_equal(v->name, "main");
    assert_fails(d->ops->put_if_absent(d, "a/b", &part, 1, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->put_source_if_absent(d, "a/b", &from, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->get(d, "a/b", 10, &out, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->get_range(d, "a/b", 0, 1, &out, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->size(d, "a/b", &bytes, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->list(d, "", see, NULL, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->list_names(d, "", see_name, NULL, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->remove(d, "a/b", &err), err, ERROR_CONNECT);
    assert_fails(d->ops->remove_many(d, keys, 1, &err), err, ERROR_CONNECT);
    assert_fails(d->ops->probe(d, &capabilities, &err), err, ERROR_CONNECT);
    assert_string_equal(err.message, why.message);
    assert_int_equal(out.n, 0);
    vault_free(v);
}

/* As where it is left behind, and the store answers after all. */
static void an_attempt_needs_no_configuration(void **state)
{
    struct config c = {0};
    struct vault_opening *opening;
    struct error err = ERROR_INIT;

    (void)state;
    make("main", "words");
    load(&c, true);
    struct attempt *a = config_vault_attempt(&c.vaults[0], &opening);
    config_release(&c);
    assert_ok(attempt_wait(a, clock_mono_us() + 60 * CLOCK_US_PER_S, &err), err);
    assert_string_equal(opening->vault->name, "main");
    attempt_free(a);
}

/* Until the try that is due at that moment has ended; the clock stands still meanwhile. */
static struct vault *look_at(struct late_vault *l, int64_t mono_us)
{
    struct error ignored = ERROR_INIT;
    struct vault *v = late_look(l, mono_us);

    if (l->attempt)
        (void)!attempt_wait(l->attempt, clock_mono_us() + 60 * CLOCK_US_PER_S, &ignored);
    return v ? v : late_look(l, mono_us);
}

static void it_is_tried_again_ever_more_rarely(void **state)
{
    static const int pauses_s[] = {5, 10, 20, 40, 60, 60, 60};
    CLEANUP(config_release) struct config c = {0};
    struct late_vault l;

    (void)state;
    load(&c, false);
    late_init(&l, config_vault(&c, "main"));
    int64_t due = l.next_mono_us;
    for (size_t i = 0; i + 1 < sizeof pauses_s / sizeof *pauses_s; i++) {
        assert_null(look_at(&l, due - 1)); /* not before */
        assert_int_equal(l.next_mono_us, due);
        assert_null(look_at(&l, due));
        assert_int_equal(l.next_mono_us, due + pauses_s[i + 1] * CLOCK_US_PER_S);
        assert_contains(l.told, "there is no vault at");
        due = l.next_mono_us;
    }
    make("main", NULL);
    assert_null(look_at(&l, due - 1));
    struct vault *v = look_at(&l, due);
    assert_non_null(v);
    assert_string_equal(v->name, "main");
    assert_false(vault_is_absent(v));
    vault_free(v);
    late_end(&l);
}

/* Its thread is left behind, and takes with it what it opened. */
static void who_ends_waits_for_nothing(void **state)
{
    CLEANUP(config_release) struct config c = {0};
    struct error ignored = ERROR_INIT;
    struct late_vault l;

    (void)state;
    make("main", NULL);
    load(&c, false);
    late_init(&l, config_vault(&c, "main"));
    struct vault *v = late_look(&l, l.next_mono_us);
    if (l.attempt)
        (void)!attempt_wait(l.attempt, clock_mono_us() + 60 * CLOCK_US_PER_S, &ignored);
    late_end(&l);
    assert_null(l.attempt);
    vault_free(v); /* NULL, unless it was open at once */
}

int main(void)
{
#define IN_FOLDER(test_) cmocka_unit_test_setup_teardown(test_, folder_new, folder_gone)
    const struct CMUnitTest tests[] = {
        IN_FOLDER(one_that_is_not_there_is_absent),
        IN_FOLDER(one_that_is_wrong_stops_it),
        IN_FOLDER(not_without_the_vault_whose_keys_seal_the_spool),
        cmocka_unit_test(no_call_into_an_absent_one_means_that_something_is_missing),
        IN_FOLDER(an_attempt_needs_no_configuration),
        IN_FOLDER(it_is_tried_again_ever_more_rarely),
        IN_FOLDER(who_ends_waits_for_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
