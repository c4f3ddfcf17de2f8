/* vault/s3/xml.c - see xml.h. Names lose their namespace prefix; order and case are kept. */
#include "vault/s3/xml.h"

#include <expat.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#define DEPTH_MAX      16
#define PATH_BYTES     512
#define TEXT_BYTES_MAX ((size_t)8 << 10)

struct walk {
    XML_Parser parser;
    int (*fn)(void *user, const char *path, const char *text, struct error *err);
    void *user;
    struct error *err;
    int result;
    size_t depth; /* of open elements */
    size_t ends[DEPTH_MAX]; /* length of path before each */
    char path[PATH_BYTES];
    struct buf text;
};

static void stop(struct walk *w, int result)
{
    w->result = result;
    (void)XML_StopParser(w->parser, XML_FALSE);
}

static void XMLCALL on_start(void *user, const XML_Char *name, const XML_Char **attributes)
{
    struct walk *w = user;
    const char *local = strrchr(name, ':');

    (void)attributes;
    if (w->result < 0)
        return;
    size_t n = strlen(w->path);
    local = local ? local + 1 : name;
    if (w->depth == DEPTH_MAX || n + strlen(local) + 2 > sizeof w->path) {
        stop(w, error_set(w->err, ERROR_PROTOCOL, "its elements are nested too deeply"));
        return;
    }
    w->ends[w->depth++] = n;
    if (w->depth > 1) /* the root is "" */
        (void)snprintf(w->path + n, sizeof w->path - n, "%s%s", n > 0 ? "/" : "", local);
    buf_clear(&w->text);
}

static void XMLCALL on_end(void *user, const XML_Char *name)
{
    struct walk *w = user;

    (void)name;
    if (w->result < 0)
        return;
    if (w->text.overflow) {
        stop(w, error_set(w->err, ERROR_PROTOCOL, "an element has more than %zu bytes of text", w->text.max));
        return;
    }
    int rc = w->fn(w->user, w->path, buf_cstr(&w->text), w->err);
    buf_clear(&w->text);
    w->path[w->ends[--w->depth]] = '\0';
    if (rc < 0)
        stop(w, rc);
}

static void XMLCALL on_text(void *user, const XML_Char *p, int n)
{
    struct walk *w = user;

    buf_put(&w->text, p, (size_t)n);
}

/* No entity of a document's own: neither bombs nor files of this host. */
static void XMLCALL on_doctype(void *user, const XML_Char *name, const XML_Char *system_id, const XML_Char *public_id, int internal)
{
    struct walk *w = user;

    (void)name;
    (void)system_id;
    (void)public_id;
    (void)internal;
    stop(w, error_set(w->err, ERROR_PROTOCOL, "it declares a document type"));
}

int xml_walk(struct slice document, int (*fn)(void *user, const char *path, const char *text, struct error *err), void *user,
             struct error *err)
{
    struct walk w = {.fn = fn, .user = user, .err = err, .text = BUF_INIT(TEXT_BYTES_MAX)};

    if (document.n > INT_MAX)
        return error_set(err, ERROR_PROTOCOL, "it has %zu bytes", document.n);
    w.parser = XML_ParserCreate(NULL);
    ASSERT(w.parser);
    XML_SetUserData(w.parser, &w);
    XML_SetElementHandler(w.parser, on_start, on_end);
    XML_SetCharacterDataHandler(w.parser, on_text);
    XML_SetStartDoctypeDeclHandler(w.parser, on_doctype);
    enum XML_Status status = XML_Parse(w.parser, document.n ? (const char *)document.p : "", (int)document.n, XML_TRUE);
    if (w.result >= 0 && status != XML_STATUS_OK)
        w.result = error_set(err, ERROR_PROTOCOL, "it is no XML: %s", XML_ErrorString(XML_GetErrorCode(w.parser)));
    XML_ParserFree(w.parser);
    buf_release(&w.text);
    return w.result;
}

struct find {
    const char *path;
    char *text;
    size_t text_bytes;
    bool found;
};

static int see(void *user, const char *path, const char *text, struct error *err)
{
    struct find *f = user;

    (void)err;
    if (!f->found && strcmp(path, f->path) == 0) {
        (void)snprintf(f->text, f->text_bytes, "%s", text);
        f->found = true;
    }
    return 0;
}

bool xml_find(struct slice document, const char *path, char *text, size_t text_bytes)
{
    struct find f = {.path = path, .text = text, .text_bytes = text_bytes};

    text[0] = '\0';
    return xml_walk(document, see, &f, NULL) >= 0 && f.found;
}
