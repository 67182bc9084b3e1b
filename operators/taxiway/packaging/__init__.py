"""Freezes a model project's components into code packages: hashed source, locked environment, entry point."""

from taxiway.packaging.package import CodePackage, Materialised, materialise, package

__all__ = ["CodePackage", "Materialised", "materialise", "package"]
