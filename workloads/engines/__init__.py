"""Engines that generate outputs: one package for each, one interface."""
