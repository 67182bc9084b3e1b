"""The local trial: the whole path on real images with one command, `python -m taxiway.trial`.

Here live the supervisor of the trial's processes, the story that it plays through Airflow's REST API under steady
traffic, and the screens that tell it. Nothing here imports Airflow or MLflow: the trial starts them and speaks HTTP
with them, as a user would. The steps of the path live in the library; the trial only asks for them.
"""
