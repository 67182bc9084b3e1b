BEGIN TRANSACTION;
CREATE TABLE cursors (
	source VARCHAR(64) NOT NULL, 
	cursor TEXT NOT NULL, 
	PRIMARY KEY (source)
);
INSERT INTO "cursors" VALUES('attempts','338');
CREATE TABLE endpoints (
	handle VARCHAR(64) NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (handle)
);
INSERT INTO "endpoints" VALUES('digits','{"handle": "digits", "stable": 1, "previous": null, "shield": true, "mirror_pct": 0.0, "split": {"stable": 1, "parts": {"2": 500, "1": 9500}}, "header": null, "closed": {}}');
CREATE TABLE entries (
	seq INTEGER NOT NULL, 
	at_s FLOAT NOT NULL, 
	handle VARCHAR(64) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	actor VARCHAR(250) NOT NULL, 
	reason TEXT NOT NULL, 
	body TEXT NOT NULL, 
	previous VARCHAR(64) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	PRIMARY KEY (seq)
);
INSERT INTO "entries" VALUES(1,1000000.0,'digits','deployed','ann','asked to run','{"version": 1, "model": "digits/1", "lineage": {}}','0000000000000000000000000000000000000000000000000000000000000000','8b5ac871c11f780d69bde7272f46eec5bd58bddaf7f1d5f5182797328d142b25');
INSERT INTO "entries" VALUES(2,1000003.0,'digits','asked','ann','canary of version 1','{"rollout": "to-1", "spec": {"id": "to-1", "handle": "digits", "version": 1, "availability": 0.99, "latency_ms": null, "alpha": 0.01, "shield": true, "warm_s": 60, "max_users": null, "on_failure": "abort", "on_running": "reject", "deadline_s": null, "reverify": true, "actor": "ann", "rivals": [], "strategy": {"kind": "canary", "steps": []}, "metrics": [], "group": null}}','8b5ac871c11f780d69bde7272f46eec5bd58bddaf7f1d5f5182797328d142b25','ff6c64feba66468753799c21d11d30d578947a95e4de689569888e7c79b86cd3');
INSERT INTO "entries" VALUES(3,1000003.0,'digits','rollout','ann','the candidate is being made ready','{"rollout": "to-1", "version": 1, "plan": [{"setWeight": 100}, {"bake": {"duration_s": 2}}], "state": {"started_at_s": 1000003.0, "entered_at_s": 1000003.0, "stable": null, "status": "preparing", "step": 0, "weights": {}, "spans": {}, "weighed_at_s": 1000003.0, "header": null, "mirror_pct": 0.0, "is_closed": false, "is_open": false, "outcome": null, "reason": "the candidate is being made ready", "dropped": {}, "added": [], "winner": null, "guards": {}, "totals": {}, "at_step": {}, "arms": {}, "rewards": {}, "compared": {}, "updated_at_s": 0.0, "baseline_ms": null, "cursors": {}, "failed": [], "said": [], "first_bad_at_s": null, "rolled_back_at_s": null, "ended_at_s": null, "unsure_since_s": null, "restarts": {}, "is_resumed": false, "is_waived": false, "is_overdue": false, "is_fast": false, "is_ready": false, "is_frozen": false, "is_stuck": false}, "split": null, "lineage": {}}','ff6c64feba66468753799c21d11d30d578947a95e4de689569888e7c79b86cd3','763c6273a7d83855dfe796a1bf6ce3483c949098bfda019a9716758bc76d7e0b');
INSERT INTO "entries" VALUES(4,1000004.0,'digits','decision','controller','the candidate is ready','{"rollout": "to-1", "version": 1, "verdict": "advance", "step": 0, "look": {"applied": "YES", "evidence": "YES", "candidates": {"1": "YES"}}, "split": {"stable": 1, "parts": {"1": 10000}}, "observed": null, "evidence": [{"guard": "error_budget", "version": 1, "answer": "unknown", "log_e": -0.0, "threshold": 5.2983, "reason": "0 of 0 canary units bad, 0 of 0 control units; over the budget of 1.000% at alpha 0.005", "acts": true}, {"guard": "client_error_frozen", "version": 1, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 0 control units; more 4xx answers than the control had at alpha 0.005", "acts": true}, {"guard": "ratio_certificate", "version": 1, "answer": "unknown", "log_e": 0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 0 control units; under 2 times the control''s errors at alpha 0.025", "acts": true}, {"guard": "budget_certificate", "version": 1, "answer": "unknown", "log_e": -0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 0 control units; under the budget of 1.000% at alpha 0.025", "acts": true}, {"guard": "sample_ratio", "version": 0, "answer": "unknown", "log_e": 0.0, "threshold": 6.9078, "reason": "new units of 0 versions do not arrive in the shares of the split, at alpha 0.001", "acts": true}]}','763c6273a7d83855dfe796a1bf6ce3483c949098bfda019a9716758bc76d7e0b','fca7d92017e6133663206123cb859bd6779b28e857025ebe02ec0f6985b4d5f3');
INSERT INTO "entries" VALUES(5,1000005.0,'digits','split','controller','read back','{"observed": {"stable": 1, "parts": {"1": 10000}}}','fca7d92017e6133663206123cb859bd6779b28e857025ebe02ec0f6985b4d5f3','98cd77efd2c32691d93f5ec3b0aaacc6d590976dc248c23ab46c2e3d78812579');
INSERT INTO "entries" VALUES(6,1000005.0,'digits','decision','controller','100 % read back','{"rollout": "to-1", "version": 1, "verdict": "advance", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"1": "YES"}, "counts": {"1/errors": {"canary": 100, "fresh": 100, "requests": 100}, "1/client_errors": {"canary": 100, "fresh": 100, "requests": 100}}}, "split": {"stable": 1, "parts": {"1": 10000}}, "observed": {"stable": 1, "parts": {"1": 10000}}, "evidence": [{"guard": "error_budget", "version": 1, "answer": "no", "log_e": -1.8405, "threshold": 5.2983, "reason": "0 of 100 canary units bad, 0 of 0 control units; over the budget of 1.000% at alpha 0.005", "acts": true}, {"guard": "client_error_frozen", "version": 1, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 100 canary units bad, 0 of 0 control units; more 4xx answers than the control had at alpha 0.005", "acts": true}, {"guard": "ratio_certificate", "version": 1, "answer": "unknown", "log_e": 0.0, "threshold": 3.6889, "reason": "0 of 100 canary units bad, 0 of 0 control units; under 2 times the control''s errors at alpha 0.025", "acts": true}, {"guard": "budget_certificate", "version": 1, "answer": "no", "log_e": 0.9238, "threshold": 3.6889, "reason": "0 of 100 canary units bad, 0 of 0 control units; under the budget of 1.000% at alpha 0.025", "acts": true}, {"guard": "sample_ratio", "version": 0, "answer": "unknown", "log_e": 0.0, "threshold": 6.9078, "reason": "new units of 0 versions do not arrive in the shares of the split, at alpha 0.001", "acts": true}]}','98cd77efd2c32691d93f5ec3b0aaacc6d590976dc248c23ab46c2e3d78812579','b2b0a465c600aea50194f63d8627250d05bfc2243f69a7533a7bd08fe315b187');
INSERT INTO "entries" VALUES(7,1000007.0,'digits','decision','controller','bakes for 2 s, guards quiet','{"rollout": "to-1", "version": 1, "verdict": "promote", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"1": "YES"}, "counts": {"1/errors": {"canary": 200, "fresh": 200, "requests": 200}, "1/client_errors": {"canary": 200, "fresh": 200, "requests": 200}}, "assigned": {"1": 200}}, "split": {"stable": 1, "parts": {"1": 10000}}, "observed": {"stable": 1, "parts": {"1": 10000}}, "evidence": [{"guard": "error_budget", "version": 1, "answer": "no", "log_e": -3.2601, "threshold": 5.2983, "reason": "0 of 300 canary units bad, 0 of 0 control units; over the budget of 1.000% at alpha 0.005", "acts": true}, {"guard": "client_error_frozen", "version": 1, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 300 canary units bad, 0 of 0 control units; more 4xx answers than the control had at alpha 0.005", "acts": true}, {"guard": "ratio_certificate", "version": 1, "answer": "unknown", "log_e": 0.0, "threshold": 3.6889, "reason": "0 of 300 canary units bad, 0 of 0 control units; under 2 times the control''s errors at alpha 0.025", "acts": true}, {"guard": "budget_certificate", "version": 1, "answer": "no", "log_e": 2.8201, "threshold": 3.6889, "reason": "0 of 300 canary units bad, 0 of 0 control units; under the budget of 1.000% at alpha 0.025", "acts": true}, {"guard": "sample_ratio", "version": 0, "answer": "unknown", "log_e": 0.0, "threshold": 6.9078, "reason": "new units of 0 versions do not arrive in the shares of the split, at alpha 0.001", "acts": true}]}','b2b0a465c600aea50194f63d8627250d05bfc2243f69a7533a7bd08fe315b187','e1e8e3182b501d5302801605b5f3cb5c108b8b7a8f4714d948a635c24c4d6cc2');
INSERT INTO "entries" VALUES(8,1000007.0,'digits','live','ann','version 1 is live','{"stable": 1, "before": null, "lineage": {}}','e1e8e3182b501d5302801605b5f3cb5c108b8b7a8f4714d948a635c24c4d6cc2','2093b86d20cbb80fc6a6cd0ba650d05e48a77c91f7c9497f768c4931af50fa37');
INSERT INTO "entries" VALUES(9,1000007.0,'digits','deployed','ann','asked to run','{"version": 2, "model": "digits/2", "lineage": {}}','2093b86d20cbb80fc6a6cd0ba650d05e48a77c91f7c9497f768c4931af50fa37','cc90cff16fd9a6d0a12b7c24f6fa309dc324f6b12fd0433d7dbf265cbc74de27');
INSERT INTO "entries" VALUES(10,1000007.0,'digits','deployed','ann','asked to run','{"version": 3, "model": "digits/3", "lineage": {}}','cc90cff16fd9a6d0a12b7c24f6fa309dc324f6b12fd0433d7dbf265cbc74de27','406adbd41698b6ccdcf412b60dea72057dac4aba54cee761f1e2b8779d4859c3');
INSERT INTO "entries" VALUES(11,1000010.0,'digits','asked','unknown','canary of version 2','{"rollout": "to-2", "spec": {"id": "to-2", "handle": "digits", "version": 2, "availability": 0.99, "latency_ms": null, "alpha": 0.01, "shield": true, "warm_s": 60, "max_users": null, "on_failure": "abort", "on_running": "reject", "deadline_s": null, "reverify": true, "actor": "unknown", "rivals": [], "strategy": {"kind": "canary", "steps": []}, "metrics": [], "group": null}}','406adbd41698b6ccdcf412b60dea72057dac4aba54cee761f1e2b8779d4859c3','7d26562a0d7f0bd7b9f1fb48525c7d7b531d5830daef694326f47690be3ff662');
INSERT INTO "entries" VALUES(12,1000010.0,'digits','rollout','unknown','the candidate is being made ready','{"rollout": "to-2", "version": 2, "plan": [{"setWeight": 5}, {"analysis": {"units": 40}}, {"setWeight": 25}, {"analysis": {"units": 100, "certify": true}}, {"setWeight": 100}, {"bake": {"duration_s": 10.0}}], "state": {"started_at_s": 1000010.0, "entered_at_s": 1000010.0, "stable": 1, "status": "preparing", "step": 0, "weights": {}, "spans": {}, "weighed_at_s": 1000010.0, "header": null, "mirror_pct": 0.0, "is_closed": false, "is_open": false, "outcome": null, "reason": "the candidate is being made ready", "dropped": {}, "added": [], "winner": null, "guards": {}, "totals": {}, "at_step": {}, "arms": {}, "rewards": {}, "compared": {}, "updated_at_s": 0.0, "baseline_ms": null, "cursors": {}, "failed": [], "said": [], "first_bad_at_s": null, "rolled_back_at_s": null, "ended_at_s": null, "unsure_since_s": null, "restarts": {}, "is_resumed": false, "is_waived": false, "is_overdue": false, "is_fast": false, "is_ready": false, "is_frozen": false, "is_stuck": false}, "split": {"stable": 1, "parts": {"1": 10000}}, "lineage": {}}','7d26562a0d7f0bd7b9f1fb48525c7d7b531d5830daef694326f47690be3ff662','135b58573c74ded0194880484c03f0dc21971b137fc859b3a27e05c9300fa5e7');
INSERT INTO "entries" VALUES(13,1000011.0,'digits','decision','controller','the candidate is ready','{"rollout": "to-2", "version": 2, "verdict": "advance", "step": 0, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"control": 5}, "2/client_errors": {"control": 5}}}, "split": {"stable": 1, "parts": {"2": 500, "1": 9500}}, "observed": {"stable": 1, "parts": {"1": 10000}}, "evidence": [{"guard": "error_ratio", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 5 control units; more errors than the control at alpha 0.0025", "acts": true}, {"guard": "client_error_ratio", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 5 control units; more 4xx answers than the control at alpha 0.0025", "acts": true}, {"guard": "error_budget", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 5 control units; over the budget of 1.000% at alpha 0.0025", "acts": true}, {"guard": "client_error_frozen", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 6.6846, "reason": "0 of 0 canary units bad, 0 of 5 control units; more 4xx answers than the control had at alpha 0.0025", "acts": true}, {"guard": "ratio_certificate", "version": 2, "answer": "unknown", "log_e": 0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 5 control units; under 2 times the control''s errors at alpha 0.025", "acts": true}, {"guard": "budget_certificate", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 5 control units; under the budget of 1.000% at alpha 0.025", "acts": true}, {"guard": "sample_ratio", "version": 0, "answer": "unknown", "log_e": 0.0, "threshold": 6.9078, "reason": "new units of 0 versions do not arrive in the shares of the split, at alpha 0.001", "acts": true}]}','135b58573c74ded0194880484c03f0dc21971b137fc859b3a27e05c9300fa5e7','8aa58adac44e1038487af9f0337f98655c71cc9ce653712bbabbcf1fc0cbc133');
INSERT INTO "entries" VALUES(14,1000012.0,'digits','split','controller','read back','{"observed": {"stable": 1, "parts": {"2": 500, "1": 9500}}}','8aa58adac44e1038487af9f0337f98655c71cc9ce653712bbabbcf1fc0cbc133','db7c07544e71c183de8382ccb1cb55d60d3004369ebc31ab7d11ff5e3256d9a6');
INSERT INTO "entries" VALUES(15,1000012.0,'digits','decision','controller','5 % read back','{"rollout": "to-2", "version": 2, "verdict": "advance", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"control": 5}, "2/client_errors": {"control": 5}}}, "split": {"stable": 1, "parts": {"2": 500, "1": 9500}}, "observed": {"stable": 1, "parts": {"2": 500, "1": 9500}}, "evidence": [{"guard": "error_ratio", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 10 control units; more errors than the control at alpha 0.0025", "acts": true}, {"guard": "client_error_ratio", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 10 control units; more 4xx answers than the control at alpha 0.0025", "acts": true}, {"guard": "error_budget", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 5.9915, "reason": "0 of 0 canary units bad, 0 of 10 control units; over the budget of 1.000% at alpha 0.0025", "acts": true}, {"guard": "client_error_frozen", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 6.6846, "reason": "0 of 0 canary units bad, 0 of 10 control units; more 4xx answers than the control had at alpha 0.0025", "acts": true}, {"guard": "ratio_certificate", "version": 2, "answer": "unknown", "log_e": 0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 10 control units; under 2 times the control''s errors at alpha 0.025", "acts": true}, {"guard": "budget_certificate", "version": 2, "answer": "unknown", "log_e": -0.0, "threshold": 3.6889, "reason": "0 of 0 canary units bad, 0 of 10 control units; under the budget of 1.000% at alpha 0.025", "acts": true}, {"guard": "sample_ratio", "version": 0, "answer": "unknown", "log_e": 0.0, "threshold": 6.9078, "reason": "new units of 0 versions do not arrive in the shares of the split, at alpha 0.001", "acts": true}]}','db7c07544e71c183de8382ccb1cb55d60d3004369ebc31ab7d11ff5e3256d9a6','809c1fa8122e8d985bedb473920673f6eb6c910c5ed5b4915e9d39dd5f01a421');
INSERT INTO "entries" VALUES(16,1000013.0,'digits','decision','controller','too little evidence: 0 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"control": 5}, "2/client_errors": {"control": 5}}, "assigned": {"1": 5}}}','809c1fa8122e8d985bedb473920673f6eb6c910c5ed5b4915e9d39dd5f01a421','7dc18b4364a40fba4841fbf7d9512e8f2e1d06e1a172d3cce6486792c1171791');
INSERT INTO "entries" VALUES(17,1000014.0,'digits','decision','controller','too little evidence: 1 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"canary": 1, "control": 4, "fresh": 1, "requests": 1}, "2/client_errors": {"canary": 1, "control": 4, "fresh": 1, "requests": 1}}, "assigned": {"1": 4, "2": 1}}}','7dc18b4364a40fba4841fbf7d9512e8f2e1d06e1a172d3cce6486792c1171791','7e3ee50f809ebdf1c3ad253370d6023aeff7db9b1f144119bcf8863475f21b23');
INSERT INTO "entries" VALUES(18,1000015.0,'digits','decision','controller','too little evidence: 1 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"control": 5}, "2/client_errors": {"control": 5}}, "assigned": {"1": 5}}}','7e3ee50f809ebdf1c3ad253370d6023aeff7db9b1f144119bcf8863475f21b23','9ba98f87b838c8bf2ea4dc690b7552ad1ebaa22f9c4c874f3c2f891d6e389196');
INSERT INTO "entries" VALUES(19,1000016.0,'digits','decision','controller','too little evidence: 1 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"control": 5}, "2/client_errors": {"control": 5}}, "assigned": {"1": 5}}}','9ba98f87b838c8bf2ea4dc690b7552ad1ebaa22f9c4c874f3c2f891d6e389196','2fd6771732228003ad52f0339afac2f94b113d16aff4bd326f63f1517718577e');
INSERT INTO "entries" VALUES(20,1000017.0,'digits','decision','controller','too little evidence: 2 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"canary": 1, "control": 2, "fresh": 1, "requests": 1}, "2/client_errors": {"canary": 1, "control": 2, "fresh": 1, "requests": 1}}, "assigned": {"1": 2, "2": 1}}}','2fd6771732228003ad52f0339afac2f94b113d16aff4bd326f63f1517718577e','36affba645df542648c64db59fb91c6a2a4283d48ff705445ee67e31f9d25bad');
INSERT INTO "entries" VALUES(21,1000018.0,'digits','decision','controller','too little evidence: 2 of 40 new units at this step','{"rollout": "to-2", "version": 2, "verdict": "hold", "step": 1, "look": {"applied": "YES", "evidence": "YES", "candidates": {"2": "YES"}, "counts": {"2/errors": {"canary": 1, "control": 2, "requests": 1}, "2/client_errors": {"canary": 1, "control": 2, "requests": 1}}}}','36affba645df542648c64db59fb91c6a2a4283d48ff705445ee67e31f9d25bad','32c85b4e68578b56eb3b33255fa5689526b8a7b7600b9fe4ab2d837828b8cff3');
CREATE TABLE exposure_counts (
	handle VARCHAR(64) NOT NULL, 
	second INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	exposures INTEGER NOT NULL, 
	PRIMARY KEY (handle, second, version)
)
 WITHOUT ROWID

;
INSERT INTO "exposure_counts" VALUES('digits',1000018,1,1);
INSERT INTO "exposure_counts" VALUES('digits',1000019,2,1);
INSERT INTO "exposure_counts" VALUES('digits',1000020,1,1);
INSERT INTO "exposure_counts" VALUES('digits',1000021,2,1);
INSERT INTO "exposure_counts" VALUES('digits',1000022,1,1);
INSERT INTO "exposure_counts" VALUES('digits',1000023,2,1);
CREATE TABLE exposure_shares (
	handle VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	at_s FLOAT NOT NULL, 
	has_share BOOLEAN NOT NULL, 
	PRIMARY KEY (handle, version, at_s)
)
 WITHOUT ROWID

;
CREATE TABLE exposures (
	request_id VARCHAR(128) NOT NULL, 
	handle VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	unit VARCHAR(300) NOT NULL, 
	at_s FLOAT NOT NULL, 
	share FLOAT NOT NULL, 
	opening VARCHAR(128) NOT NULL, 
	opened_at_s FLOAT NOT NULL, 
	PRIMARY KEY (request_id)
);
INSERT INTO "exposures" VALUES('r0','digits',1,'user:0',1000018.0,0.5,'r0',1000018.0);
INSERT INTO "exposures" VALUES('r1','digits',2,'user:1',1000019.0,0.5,'r1',1000019.0);
INSERT INTO "exposures" VALUES('r2','digits',1,'user:2',1000020.0,0.5,'r2',1000020.0);
INSERT INTO "exposures" VALUES('r3','digits',2,'user:0',1000021.0,0.5,'r3',1000021.0);
INSERT INTO "exposures" VALUES('r4','digits',1,'user:1',1000022.0,0.5,'r4',1000022.0);
INSERT INTO "exposures" VALUES('r5','digits',2,'user:2',1000023.0,0.5,'r5',1000023.0);
CREATE TABLE feedback_events (
	request_id VARCHAR(128) NOT NULL, 
	metric VARCHAR(64) NOT NULL, 
	event_id VARCHAR(128) NOT NULL, 
	value FLOAT NOT NULL, 
	event_at_s FLOAT NOT NULL, 
	received_at_s FLOAT NOT NULL, 
	place INTEGER, 
	handle VARCHAR(64), 
	version INTEGER, 
	unit VARCHAR(300), 
	at_s FLOAT, 
	share FLOAT, 
	opening VARCHAR(128), 
	opened_at_s FLOAT, 
	PRIMARY KEY (request_id, metric, event_id), 
	UNIQUE (place)
);
INSERT INTO "feedback_events" VALUES('r1','click','',1.0,1000020.0,1000027.0,1,'digits',2,'user:1',1000019.0,0.5,'r1',1000019.0);
INSERT INTO "feedback_events" VALUES('never','click','',1.0,1000020.0,1000027.0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE feedback_metrics (
	handle VARCHAR(64) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	window_s FLOAT NOT NULL, 
	how VARCHAR(8) NOT NULL, 
	is_followed BOOLEAN NOT NULL, 
	PRIMARY KEY (handle, name)
);
INSERT INTO "feedback_metrics" VALUES('digits','click',3600.0,'first',0);
CREATE TABLE met (
	rollout VARCHAR(250) NOT NULL, 
	unit VARCHAR(300) NOT NULL, 
	version INTEGER NOT NULL, 
	bad TEXT NOT NULL, 
	PRIMARY KEY (rollout, unit, version)
);
INSERT INTO "met" VALUES('to-2','user:1',1,'');
INSERT INTO "met" VALUES('to-2','user:2',1,'');
INSERT INTO "met" VALUES('to-2','user:0',2,'');
CREATE TABLE outbox (
	place INTEGER NOT NULL, 
	id VARCHAR(64) NOT NULL, 
	event VARCHAR(64) NOT NULL, 
	at_s FLOAT NOT NULL, 
	due_at_s FLOAT NOT NULL, 
	tries INTEGER NOT NULL, 
	has_failed BOOLEAN NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (place), 
	UNIQUE (id)
);
INSERT INTO "outbox" VALUES(1,'118f975f7e3947e84e53120f9db4390e','begun',1000003.0,1000003.0,0,0,'{"event": "begun", "at_s": 1000003.0, "text": "digits version 1 a rollout has begun: the candidate is being made ready (rollout to-1)", "handle": "digits", "rollout": "to-1", "version": 1, "rivals": [], "stable": null, "strategy": "canary", "status": "preparing", "outcome": null, "step": 0, "weight_pct": 0, "weights": {}, "winner": null, "reason": "the candidate is being made ready", "actor": "ann"}');
INSERT INTO "outbox" VALUES(2,'6ba213a6816987db9614b30a22610b6c','advanced',1000004.0,1000004.0,0,0,'{"event": "advanced", "at_s": 1000004.0, "text": "digits version 1 now has 100 % of the traffic: the candidate is ready (rollout to-1)", "handle": "digits", "rollout": "to-1", "version": 1, "rivals": [], "stable": null, "strategy": "canary", "status": "progressing", "outcome": null, "step": 0, "weight_pct": 100.0, "weights": {"1": 100.0}, "winner": null, "reason": "the candidate is ready", "actor": "ann"}');
INSERT INTO "outbox" VALUES(3,'74289773b7b331459f62efc488bb87be','promoted',1000007.0,1000007.0,0,0,'{"event": "promoted", "at_s": 1000007.0, "text": "digits version 1 is live: bakes for 2 s, guards quiet (rollout to-1)", "handle": "digits", "rollout": "to-1", "version": 1, "rivals": [], "stable": null, "strategy": "canary", "status": "ended", "outcome": "Promoted", "step": 1, "weight_pct": 100.0, "weights": {"1": 100.0}, "winner": 1, "reason": "bakes for 2 s, guards quiet", "actor": "ann"}');
INSERT INTO "outbox" VALUES(4,'d0d163128f1d5bfe0e7e598d8fa05394','begun',1000010.0,1000010.0,0,0,'{"event": "begun", "at_s": 1000010.0, "text": "digits version 2 a rollout has begun: the candidate is being made ready (rollout to-2)", "handle": "digits", "rollout": "to-2", "version": 2, "rivals": [], "stable": 1, "strategy": "canary", "status": "preparing", "outcome": null, "step": 0, "weight_pct": 0, "weights": {}, "winner": null, "reason": "the candidate is being made ready", "actor": "unknown"}');
INSERT INTO "outbox" VALUES(5,'b46525fa7d4eab949916bc64a1c59ba8','advanced',1000011.0,1000011.0,0,0,'{"event": "advanced", "at_s": 1000011.0, "text": "digits version 2 now has 5 % of the traffic: the candidate is ready (rollout to-2)", "handle": "digits", "rollout": "to-2", "version": 2, "rivals": [], "stable": 1, "strategy": "canary", "status": "progressing", "outcome": null, "step": 0, "weight_pct": 5.0, "weights": {"2": 5.0}, "winner": null, "reason": "the candidate is ready", "actor": "unknown"}');
CREATE TABLE rollouts (
	id VARCHAR(250) NOT NULL, 
	handle VARCHAR(64) NOT NULL, 
	started_at_s FLOAT NOT NULL, 
	has_ended BOOLEAN NOT NULL, 
	body TEXT NOT NULL, 
	group_name VARCHAR(250), 
	PRIMARY KEY (id)
);
INSERT INTO "rollouts" VALUES('to-1','digits',1000003.0,1,'{"spec": {"id": "to-1", "handle": "digits", "version": 1, "availability": 0.99, "latency_ms": null, "alpha": 0.01, "shield": true, "warm_s": 60, "max_users": null, "on_failure": "abort", "on_running": "reject", "deadline_s": null, "reverify": true, "actor": "ann", "rivals": [], "strategy": {"kind": "canary", "steps": []}, "metrics": [], "group": null}, "plan": [{"setWeight": 100}, {"bake": {"duration_s": 2}}], "state": {"started_at_s": 1000003.0, "entered_at_s": 1000007.0, "stable": null, "status": "ended", "step": 1, "weights": {"1": 100.0}, "spans": {"1": [1.0, 1.0]}, "weighed_at_s": 1000004.0, "header": null, "mirror_pct": 0.0, "is_closed": false, "is_open": false, "outcome": "Promoted", "reason": "bakes for 2 s, guards quiet", "dropped": {}, "added": [], "winner": 1, "guards": {"1/error_budget": [-1.5189905869640286, -3.0457114392053883, -6.1226614893621365, -12.372887560214739, -28.59305394129747, -63.92796463821254, -204.9290534119334], "1/client_error_frozen": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "1/ratio_certificate": [0.0, 0.0, 0.0, 0.0], "1/budget_certificate": [2.985099255950428, 2.7149506559753567, 2.264161690614871, 1.5113382089871243]}, "totals": {"1/errors": {"canary": 300, "control": 0, "bad_canary": 0, "bad_control": 0, "fresh": 300, "requests": 300, "spent": 0, "past_risk": 0}, "1/client_errors": {"canary": 300, "control": 0, "bad_canary": 0, "bad_control": 0, "fresh": 300, "requests": 300, "spent": 0, "past_risk": 0}}, "at_step": {"1": 200}, "arms": {}, "rewards": {}, "compared": {}, "updated_at_s": 1000005.0, "baseline_ms": null, "cursors": {}, "failed": [], "said": [], "first_bad_at_s": null, "rolled_back_at_s": null, "ended_at_s": 1000007.0, "unsure_since_s": null, "restarts": {"1": 0}, "is_resumed": false, "is_waived": false, "is_overdue": false, "is_fast": false, "is_ready": false, "is_frozen": false, "is_stuck": false}}',NULL);
INSERT INTO "rollouts" VALUES('to-2','digits',1000010.0,0,'{"spec": {"id": "to-2", "handle": "digits", "version": 2, "availability": 0.99, "latency_ms": null, "alpha": 0.01, "shield": true, "warm_s": 60, "max_users": null, "on_failure": "abort", "on_running": "reject", "deadline_s": null, "reverify": true, "actor": "unknown", "rivals": [], "strategy": {"kind": "canary", "steps": []}, "metrics": [], "group": null}, "plan": [{"setWeight": 5}, {"analysis": {"units": 40}}, {"setWeight": 25}, {"analysis": {"units": 100, "certify": true}}, {"setWeight": 100}, {"bake": {"duration_s": 10.0}}], "state": {"started_at_s": 1000010.0, "entered_at_s": 1000012.0, "stable": 1, "status": "progressing", "step": 1, "weights": {"2": 5.0}, "spans": {"2": [0.0, 0.05]}, "weighed_at_s": 1000011.0, "header": null, "mirror_pct": 0.0, "is_closed": false, "is_open": false, "outcome": null, "reason": "too little evidence: 2 of 40 new units at this step", "dropped": {}, "added": [], "winner": null, "guards": {"2/error_ratio": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "2/client_error_ratio": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "2/error_budget": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "2/client_error_frozen": [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], "2/ratio_certificate": [0.0, 0.0, 0.0, 0.0], "2/budget_certificate": [0.019900661706336184, 0.018099671039835712, 0.015094411270765808, 0.010075588059914162], "0/sample_ratio": [0.2641205852229489, 0.1605691426616045, 0.0832968826764987, 0.04213977343090369, -0.042753127167511146, -0.08583657928385097, -0.21512937799788745, -0.8039847774812239, -0.8039847774812201, -0.21512937799788603, -0.09543256937413142, -0.04501459375837619, 0.040152083771359745, 0.07590690485475361, 0.160569142661606, 0.26412058522295345]}, "totals": {"2/errors": {"canary": 3, "control": 33, "bad_canary": 0, "bad_control": 0, "fresh": 2, "requests": 3, "spent": 0, "past_risk": 0}, "2/client_errors": {"canary": 3, "control": 33, "bad_canary": 0, "bad_control": 0, "fresh": 2, "requests": 3, "spent": 0, "past_risk": 0}}, "at_step": {"2": 2}, "arms": {}, "rewards": {}, "compared": {}, "updated_at_s": 1000012.0, "baseline_ms": null, "cursors": {}, "failed": [], "said": [], "first_bad_at_s": null, "rolled_back_at_s": null, "ended_at_s": null, "unsure_since_s": null, "restarts": {"2": 0}, "is_resumed": false, "is_waived": false, "is_overdue": false, "is_fast": false, "is_ready": false, "is_frozen": false, "is_stuck": false}}',NULL);
CREATE TABLE timeline (
	handle VARCHAR(64) NOT NULL, 
	width_s INTEGER NOT NULL, 
	at_s INTEGER NOT NULL, 
	version INTEGER NOT NULL, 
	requests INTEGER NOT NULL, 
	bad INTEGER NOT NULL, 
	client_errors INTEGER NOT NULL, 
	bins TEXT NOT NULL, 
	weights_pct FLOAT NOT NULL, 
	weights INTEGER NOT NULL, 
	PRIMARY KEY (handle, width_s, at_s, version)
)
 WITHOUT ROWID

;
INSERT INTO "timeline" VALUES('digits',10,1000010,1,4,0,0,'{"11": 4}',95.0,1);
INSERT INTO "timeline" VALUES('digits',10,1000010,2,0,0,0,'{}',5.0,1);
CREATE TABLE timeline_seen (
	request INTEGER NOT NULL, 
	at_s FLOAT NOT NULL, 
	PRIMARY KEY (request)
);
INSERT INTO "timeline_seen" VALUES(3254604335728107410,1000018.0);
INSERT INTO "timeline_seen" VALUES(4750951287249755800,1000018.0);
INSERT INTO "timeline_seen" VALUES(5812263108773342440,1000018.0);
INSERT INTO "timeline_seen" VALUES(8389473189132336565,1000018.0);
CREATE TABLE variants (
	handle VARCHAR(64) NOT NULL, 
	version INTEGER NOT NULL, 
	body TEXT NOT NULL, 
	PRIMARY KEY (handle, version)
);
INSERT INTO "variants" VALUES('digits',1,'{"handle": "digits", "version": 1, "wish": "running", "retire_at_s": null, "host": "127.0.0.1", "port": 20001, "asked_at_s": 1000000.0, "ready_at_s": 1000002.0, "failed_at_s": null, "spec": {"handle": "digits", "version": 1, "model": "digits/1", "bento_dir": "/home/taxiway/bento", "python": "/home/taxiway/python", "model_dir": "/home/taxiway/model", "environment": {}, "ready_deadline_s": 60.0, "max_rps": null}}');
INSERT INTO "variants" VALUES('digits',2,'{"handle": "digits", "version": 2, "wish": "running", "retire_at_s": null, "host": "127.0.0.1", "port": 20002, "asked_at_s": 1000007.0, "ready_at_s": 1000009.0, "failed_at_s": null, "spec": {"handle": "digits", "version": 2, "model": "digits/2", "bento_dir": "/home/taxiway/bento", "python": "/home/taxiway/python", "model_dir": "/home/taxiway/model", "environment": {}, "ready_deadline_s": 60.0, "max_rps": null}}');
INSERT INTO "variants" VALUES('digits',3,'{"handle": "digits", "version": 3, "wish": "running", "retire_at_s": 1003607.0, "host": "127.0.0.1", "port": 20003, "asked_at_s": 1000007.0, "ready_at_s": 1000009.0, "failed_at_s": null, "spec": {"handle": "digits", "version": 3, "model": "digits/3", "bento_dir": "/home/taxiway/bento", "python": "/home/taxiway/python", "model_dir": "/home/taxiway/model", "environment": {}, "ready_deadline_s": 60.0, "max_rps": null}}');
CREATE INDEX ix_rollouts_handle ON rollouts (handle);
CREATE INDEX ix_rollouts_has_ended ON rollouts (has_ended);
CREATE INDEX ix_entries_handle ON entries (handle);
CREATE INDEX ix_entries_live ON entries (handle, seq) WHERE kind = 'live';
CREATE INDEX exposures_by_unit ON exposures (handle, unit, opened_at_s) WHERE unit NOT LIKE 'request:%';
CREATE INDEX exposures_by_time ON exposures (handle, at_s);
CREATE INDEX feedback_by_time ON feedback_events (handle, metric, opened_at_s);
CREATE INDEX feedback_by_age ON feedback_events (received_at_s);
CREATE INDEX feedback_by_unit ON feedback_events (handle, metric, unit, place);
CREATE INDEX feedback_pending ON feedback_events (received_at_s) WHERE place IS NULL;
CREATE INDEX timeline_by_time ON timeline (width_s, at_s);
CREATE INDEX ix_timeline_seen_at_s ON timeline_seen (at_s);
COMMIT;
PRAGMA user_version=2;
