"""Explicit quantisation: calibrate, choose ranges, place Q/DQ, judge, and return harmful layers to float."""
