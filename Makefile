# A thin front on Meson. `make help` lists the targets.
PREFIX ?= /usr/local
DESTDIR ?=
RELEASE := build/release
ASAN := build/asan
TSAN := build/tsan

.PHONY: all release sanitized asan tsan test soak demo bench install clean help packages-build

all: release

help:
	@echo "make            build (build/release/src/cmd/salvor)"
	@echo "make demo       install what is missing, build, and show the main job on a real database (YES=1: do not ask; VAULT=s3: the vault in a bucket)"
	@echo "make test       install what is missing, build, run all tests"
	@echo "make soak       the long counts of the tests"
	@echo "make bench      the measurements, against named peers"
	@echo "make asan       everything under AddressSanitizer and UBSan"
	@echo "make tsan       unit and crash tests under ThreadSanitizer"
	@echo "make install    PREFIX=$(PREFIX) DESTDIR=$(DESTDIR)"
	@echo "make clean"

packages-build:
	@tools/install-packages build

release: packages-build
	@tools/build "$(RELEASE)" -Dtests=false --buildtype=release

sanitized: packages-build
	@tools/build "$(ASAN)" -Dtests=true --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false

asan:
	@tools/install-packages build test
	@$(MAKE) --no-print-directory sanitized
	@tools/run-tests "$(ASAN)" "$(ASAN)"

tsan:
	@tools/install-packages build test
	@tools/build "$(TSAN)" -Dtests=true --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false
	@TSAN_OPTIONS=second_deadlock_stack=1 meson test -C "$(TSAN)" --no-rebuild --num-processes 2 --timeout-multiplier 10 --print-errorlogs --suite unit --suite crash

test:
	@tools/install-packages build test
	@$(MAKE) --no-print-directory release sanitized
	@tools/run-tests "$(ASAN)" "$(RELEASE)"

soak:
	@tools/install-packages build test
	@$(MAKE) --no-print-directory release sanitized
	@SALVOR_SOAK=1 tools/run-tests "$(ASAN)" "$(RELEASE)"

demo:
	@tools/install-packages build demo $(if $(filter s3,$(VAULT)),demo-s3)
	@$(MAKE) --no-print-directory release
	@/usr/bin/python3 tools/demo/demo.py "$(RELEASE)/src/cmd/salvor"

bench:
	@tools/install-packages build test bench
	@$(MAKE) --no-print-directory release
	@/usr/bin/python3 test/bench/bench.py "$(RELEASE)/src/cmd/salvor"

install: release
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 "$(RELEASE)/src/cmd/salvor" "$(DESTDIR)$(PREFIX)/bin/salvor"

clean:
	rm -rf build
