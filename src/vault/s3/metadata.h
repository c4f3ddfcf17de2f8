/*
 * vault/s3/metadata.h - credentials of the instance's role, by IMDSv2 (AWS EC2 user guide, "Retrieve security credentials
 * from instance metadata"): a token first, then the role's name, then its keys.
 */
#ifndef SALVOR_VAULT_S3_METADATA_H
#define SALVOR_VAULT_S3_METADATA_H

#include "vault/s3/credentials.h"

/*
 * Asks AWS_EC2_METADATA_SERVICE_ENDPOINT, else http://169.254.169.254, for seconds at most.
 * Errors: USAGE it is switched off (AWS_EC2_METADATA_DISABLED=true) or the instance has no role; CONNECT; PROTOCOL.
 */
MUST_CHECK int s3_metadata_load(struct s3_key *ret, int64_t *ret_ends_wall_us, struct error *err);

#endif
