BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'finished/direct');
INSERT INTO "studies" VALUES(2,'finished/heterogeneous');
INSERT INTO "studies" VALUES(3,'interrupted/direct');
INSERT INTO "studies" VALUES(4,'interrupted/heterogeneous');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MAXIMIZE',1,0);
INSERT INTO "study_directions" VALUES(2,'MAXIMIZE',2,0);
INSERT INTO "study_directions" VALUES(3,'MAXIMIZE',3,0);
INSERT INTO "study_directions" VALUES(4,'MAXIMIZE',4,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_intermediate_values" VALUES(1,1,1,5.8333333333333337034e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(2,1,2,7.66666666666666718477e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(3,1,4,0.675,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(4,2,1,6.83333333333333348136e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(5,2,2,8.3333333333333337034e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(6,2,4,7.33333333333333392545e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(7,3,1,0.1,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(8,3,2,3.83333333333333359238e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(9,3,4,3.16666666666666651863e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(10,4,1,1.16666666666666668517e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(11,4,2,3.66666666666666640761e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(12,4,4,3.24999999999999955591e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(13,5,1,5.8333333333333337034e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(14,5,2,7.66666666666666718477e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(15,5,4,0.675,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(16,6,1,6.83333333333333348136e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(17,6,2,8.3333333333333337034e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(18,6,4,7.33333333333333392545e-01,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(19,7,1,0.1,'FINITE');
INSERT INTO "trial_intermediate_values" VALUES(20,7,2,3.83333333333333359238e-01,'FINITE');
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'neuron.threshold',0.4,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(2,1,'optimizer.lr',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(3,2,'neuron.threshold',0.4,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(4,2,'optimizer.lr',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(5,3,'neuron.threshold',1.2,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(6,3,'optimizer.lr',0.02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(7,4,'neuron.threshold',1.2,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(8,4,'optimizer.lr',0.02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(9,5,'neuron.threshold',0.4,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(10,5,'optimizer.lr',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(11,6,'neuron.threshold',0.4,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(12,6,'optimizer.lr',0.05,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
INSERT INTO "trial_params" VALUES(13,7,'neuron.threshold',1.2,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 0.3, "high": 2.0, "log": false}}');
INSERT INTO "trial_params" VALUES(14,7,'optimizer.lr',0.02,'{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-05, "high": 0.3, "log": true}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"neuron.threshold": 0.4, "optimizer.lr": 0.05}');
INSERT INTO "trial_system_attributes" VALUES(2,1,'constraints:spikes/rate','0.1374367042824074');
INSERT INTO "trial_system_attributes" VALUES(3,2,'fixed_params','{"neuron.threshold": 0.4, "optimizer.lr": 0.05}');
INSERT INTO "trial_system_attributes" VALUES(4,2,'constraints:spikes/rate','0.14049931278935185');
INSERT INTO "trial_system_attributes" VALUES(5,3,'fixed_params','{"neuron.threshold": 1.2, "optimizer.lr": 0.02}');
INSERT INTO "trial_system_attributes" VALUES(6,3,'constraints:spikes/rate','-0.1240017361111111');
INSERT INTO "trial_system_attributes" VALUES(7,4,'fixed_params','{"neuron.threshold": 1.2, "optimizer.lr": 0.02}');
INSERT INTO "trial_system_attributes" VALUES(8,4,'constraints:spikes/rate','-0.12453432436342593');
INSERT INTO "trial_system_attributes" VALUES(9,5,'fixed_params','{"neuron.threshold": 0.4, "optimizer.lr": 0.05}');
INSERT INTO "trial_system_attributes" VALUES(10,5,'constraints:spikes/rate','0.1374367042824074');
INSERT INTO "trial_system_attributes" VALUES(11,6,'fixed_params','{"neuron.threshold": 0.4, "optimizer.lr": 0.05}');
INSERT INTO "trial_system_attributes" VALUES(12,6,'constraints:spikes/rate','0.14049931278935185');
INSERT INTO "trial_system_attributes" VALUES(13,7,'fixed_params','{"neuron.threshold": 1.2, "optimizer.lr": 0.02}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_user_attributes" VALUES(1,1,'end','"finished"');
INSERT INTO "trial_user_attributes" VALUES(2,2,'end','"finished"');
INSERT INTO "trial_user_attributes" VALUES(3,3,'end','"finished"');
INSERT INTO "trial_user_attributes" VALUES(4,4,'end','"finished"');
INSERT INTO "trial_user_attributes" VALUES(5,5,'end','"finished"');
INSERT INTO "trial_user_attributes" VALUES(6,6,'end','"finished"');
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,0.675,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,7.33333333333333392545e-01,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,3.16666666666666651863e-01,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,3.24999999999999955591e-01,'FINITE');
INSERT INTO "trial_values" VALUES(5,5,0,0.675,'FINITE');
INSERT INTO "trial_values" VALUES(6,6,0,7.33333333333333392545e-01,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-26 12:50:55.672216','2026-11-26 12:50:58.839758');
INSERT INTO "trials" VALUES(2,0,2,'COMPLETE','2026-11-26 12:50:58.885622','2026-11-26 12:51:01.070051');
INSERT INTO "trials" VALUES(3,1,1,'COMPLETE','2026-11-26 12:51:01.098830','2026-11-26 12:51:03.383272');
INSERT INTO "trials" VALUES(4,1,2,'COMPLETE','2026-11-26 12:51:03.475193','2026-11-26 12:51:07.237809');
INSERT INTO "trials" VALUES(5,0,3,'COMPLETE','2026-11-26 12:51:39.469218','2026-11-26 12:51:43.234858');
INSERT INTO "trials" VALUES(6,0,4,'COMPLETE','2026-11-26 12:51:43.318854','2026-11-26 12:51:45.815411');
INSERT INTO "trials" VALUES(7,1,3,'RUNNING','2026-11-26 12:51:45.873210',NULL);
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
