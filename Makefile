# `make check` does what CI does after the demo.
.PHONY: check lint test slow release
unexport PYTHONDONTWRITEBYTECODE # else each of some hundred processes compiles torch, MLflow and Ray anew

check: lint test slow

lint:
	uv run ruff check .
	uv run ruff format --check .
	uv run mypy
	uv run lint-imports

test:
	uv run pytest -n auto

slow:
	uv run pytest -m "slow and not alone" -n 2 --dist loadfile --no-loadscope-reorder --durations 15
	uv run pytest -m "slow and alone" --durations 5

# What a release carries: wheel and source, what they depend on (CycloneDX), and under which licences.
release:
	rm -rf dist
	uv build --quiet
	uv export --quiet --preview-features sbom-export --no-dev --format cyclonedx1.5 --output-file dist/humansim.cdx.json > /dev/null
	uvx --quiet --from pip-licenses pip-licenses --python .venv/bin/python --order license --with-urls --format markdown --output-file dist/LICENSES.md
	@ls dist
