"""The parts of the report that a module each makes: figures and tables with what they mean."""
