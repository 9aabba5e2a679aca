# `make check` does what CI does after the demo.
.PHONY: check lint test slow
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
	uv run pytest -m slow --durations 15
