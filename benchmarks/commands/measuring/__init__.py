"""Measure"""
