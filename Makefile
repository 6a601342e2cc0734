# Everything runs in .venv, which the first target that needs it builds. Needs Python >= 3.11 and
# make, nothing else. All paths are relative, so that the checkout may lie anywhere.
#
#   make demo        a reconstruction from start to end on embedded data; pictures in demo/
#   make test        lint, types, dependencies and the default tests
#   make test-kernels  the numerics tests as other processors would run them
#   make browser     Debian's Chromium, for the tests that open the reports (as root; skipped without it)
#   make programs    Debian's programs that the tests marked services run against (as root)
#   make services    the tests marked services; each says what it misses where a program is absent
#   make docs        the site of the documentation in build/site, and its tutorials as tests
#   make pictures    the pictures of the tutorials and what the bundled priors draw, anew
#   make package     wheel and source archive, checked, and installed into an empty environment
#   make fuzz        damaged files for every reader, MINUTES=60 of them; findings come with the line that repeats them
#   make calibration the table of factors for the bundled priors' intervals, of DATA=../shared/data
#   make mutants     changes of the numerics that no test sees, a sample of MINUTES=60
#
# Settings: PYTHON=/path/to/python3.12   WORKERS=4   PEERS=folder   MINUTES=60   SEED=1
# pip uses the package index that the machine is configured for. Where that index offers torch with
# CUDA only and no GPU is there, PIP_EXTRA_INDEX_URL=<index of CPU builds> saves several gigabytes.

PYTHON ?=
WORKERS ?= 2
PEERS ?= build/peers
MINUTES ?= 60
SEED ?= 1

BIN := .venv/bin/python
READY := .venv/.ready
PIP := $(BIN) -m pip --disable-pip-version-check install -c constraints.txt
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

DATA ?= ../shared/data

PROGRAMS := ismrmrd-tools xvfb xauth libgl1-mesa-dri libegl1 libxcb-cursor0 libxkbcommon-x11-0 libxcb-icccm4 \
  libxcb-keysyms1 libxcb-image0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libxcb-randr0 \
  orthanc orthanc-dicomweb dcmtk munge slurm-client slurmctld slurmd

.PHONY: help calibration environment demo browser programs services docs pictures package test test-kernels lint format slow gpu fuzz mutants benchmarks peers clean
.DELETE_ON_ERROR:

help:
	@sed -n 's/^#   //p' Makefile
	@echo "Also: environment lint format slow gpu benchmarks peers clean"

environment: $(READY)

# torch comes first and in a call of its own: resolved together with the rest, its open version range
# would draw the newest build. setuptools is installed too, so that no build environment is fetched.
$(READY): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN) -c 'import pip' 2>/dev/null; then \
	  chosen=""; \
	  set -- python3.13 python3.12 python3.11 python3 python; \
	  if [ -n "$(PYTHON)" ]; then set -- "$(PYTHON)"; fi; \
	  for candidate in "$$@"; do \
	    command -v "$$candidate" >/dev/null 2>&1 || continue; \
	    if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	      chosen="$$candidate"; break; \
	    fi; \
	  done; \
	  if [ -z "$$chosen" ]; then \
	    echo "restore needs Python 3.11 or newer; none found among: $$*" >&2; \
	    echo "Install one, or name it: make PYTHON=/path/to/python3.12 demo" >&2; exit 1; \
	  fi; \
	  echo "Creating .venv with $$("$$chosen" --version)"; \
	  "$$chosen" -m venv --clear .venv || { \
	    rm -rf .venv; \
	    echo "$$chosen cannot create an environment. Debian and Ubuntu: apt install python3-venv" >&2; \
	    exit 1; }; \
	fi
	$(PIP) "$$(grep '^torch==' constraints.txt)" "$$(grep '^setuptools==' constraints.txt)"
	$(PIP) --no-build-isolation -e '.[test]'
	@touch $(READY)

demo: $(READY)
	.venv/bin/restore demo -o demo
	@echo "The pictures are in $(CURDIR)/demo"

browser:
	@if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then echo "Chromium is there"; \
	else apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium chromium-driver; fi
	@if command -v dciodvfy >/dev/null; then echo "dicom3tools are there"; \
	else apt-get update -qq && apt-get install -y -qq --no-install-recommends dicom3tools; fi

programs: browser
	@test -z "$(PROGRAMS)" || { apt-get update -qq && apt-get install -y -qq --no-install-recommends $(PROGRAMS); }

services: $(READY)
	@$(PIP) -q --no-build-isolation -e '.[services]' || echo "packages of the extra services could not be installed: their tests will be skipped"
	$(ONE_THREAD) $(BIN) -m pytest -n $(WORKERS) --dist loadfile -m services

# Warnings are errors. The slow tests of the pages are run too: tutorials, and the commands of every page.
docs: $(READY)
	$(PIP) "$$(grep '^mkdocs-material==' constraints.txt)"
	NO_MKDOCS_2_WARNING=1 $(BIN) -m mkdocs build
	$(ONE_THREAD) $(BIN) -m pytest -n $(WORKERS) -m "slow or not slow" tests/docs
	$(ONE_THREAD) $(BIN) -m pytest -n $(WORKERS) -m slow -k page tests/cli tests/datasets/simulate tests/operators/test_further_operators.py

pictures: $(READY)
	PYTHONPATH=tests $(ONE_THREAD) $(BIN) -m docs.pages docs/tutorials/pictures
	@set -e; for prior in medical natural natural-latent; do \
	  $(ONE_THREAD) $(BIN) -m restore.cli sample --prior $$prior --count 4 --size 96 -o docs/drawn/$$prior.jpg --overwrite; done

# twine and cffconvert live in an environment of their own: what they require is no business of .venv.
package: $(READY)
	rm -rf build/package
	$(ONE_THREAD) $(BIN) -m pytest -m "slow or not slow" tests/test_packaging.py
	$(BIN) -m build --no-isolation --outdir build/package/dist
	$(BIN) -m venv build/package/tools
	build/package/tools/bin/python -m pip --disable-pip-version-check install -q -r benchmarks/requirements-package.txt
	build/package/tools/bin/python -m twine check --strict build/package/dist/*
	build/package/tools/bin/cffconvert --validate -i CITATION.cff
	$(BIN) -m venv build/package/empty
	@set -e; for what in "$$(grep '^torch==' constraints.txt)" build/package/dist/restore-*.whl; do \
	  build/package/empty/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt "$$what"; done
	$(ONE_THREAD) $(BIN) tests/docs/first_commands.py build/package/empty/bin

calibration: $(READY)
	$(ONE_THREAD) $(BIN) benchmarks/calibration.py $(DATA) --runs build/calibration

test: lint
	$(ONE_THREAD) $(BIN) -m pytest -n $(WORKERS) --dist worksteal

lint: $(READY)
	$(BIN) -m ruff check .
	$(BIN) -m ruff format --check .
	$(BIN) -m mypy
	$(BIN) -m deptry .

format: $(READY)
	$(BIN) -m ruff check --fix .
	$(BIN) -m ruff format .

# The numerics tests as other processors would run them; minutes. See tests/kernels.py.
test-kernels: $(READY)
	$(BIN) tests/kernels.py --workers $(WORKERS)

slow: $(READY)
	$(ONE_THREAD) $(BIN) -m pytest -n $(WORKERS) --dist loadfile -m slow

fuzz: $(READY)
	PYTHONPATH=tests $(ONE_THREAD) $(BIN) -m fuzz.runner --minutes $(MINUTES) --seed $(SEED)

gpu: $(READY)
	$(BIN) -m pytest -m gpu

benchmarks:
	@echo "Comparisons with other packages: make peers, then see benchmarks/README.md"

# Cosmic Ray in an environment of its own that sees everything of .venv.
mutants: $(READY)
	$(BIN) -m venv --clear build/mutants/environment
	@set -e; \
	site=$$(build/mutants/environment/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	ours=$$($(BIN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	echo "import site; site.addsitedir(r'$$ours')" > "$$site/restore_environment.pth"
	build/mutants/environment/bin/python -m pip --disable-pip-version-check install -r benchmarks/requirements-mutants.txt
	$(ONE_THREAD) build/mutants/environment/bin/python benchmarks/mutants.py --minutes $(MINUTES)

# A second environment that sees everything of .venv and adds the packages we compare with.
# --no-deps throughout: their own requirements would replace torch. See benchmarks/README.md.
peers: $(READY)
	$(BIN) -m venv --clear "$(PEERS)"
	@set -e; \
	site=$$("$(PEERS)/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	ours=$$($(BIN) -c 'import sysconfig; print(sysconfig.get_path("purelib"))'); \
	echo "import site; site.addsitedir(r'$$ours')" > "$$site/restore_environment.pth"; \
	cp benchmarks/torchvision_operators.py "$$site/"; \
	echo "import torchvision_operators; torchvision_operators.install()" > "$$site/torchvision_operators.pth"
	"$(PEERS)/bin/python" -m pip --disable-pip-version-check install --no-deps -r benchmarks/requirements-peers.txt
	"$(PEERS)/bin/python" -c "import astra, deepinv, restore, sigpy, torch; print('peers ready, torch', torch.__version__)"

clean:
	rm -rf .venv build dist demo restore.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
