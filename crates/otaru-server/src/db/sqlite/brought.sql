-- The rollout that was last found to have brought a device to its image: `otaru_rollout::Occupancy`.
ALTER TABLE devices ADD COLUMN brought_by INTEGER;
UPDATE devices SET brought_by = (SELECT rollout FROM deployments
    WHERE device = devices.id AND standing IN ('succeeded', 'current') ORDER BY updated_at DESC, rollout DESC LIMIT 1);
