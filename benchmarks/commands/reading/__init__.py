"""Read results"""
