"""The registry: code packages and model versions in MLflow. `tracking.py` holds the one import of mlflow."""
