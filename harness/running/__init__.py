"""One case from prepared files to a record: stages, evaluation, sensors and checks."""
