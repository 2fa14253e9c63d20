"""What a study remembers: trial records, their history in Optuna's database, events, repair. Knows no
sampler.
"""
