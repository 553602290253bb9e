"""The paper's figures and tables beside a study's."""
